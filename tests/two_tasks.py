"""The tasks ``a`` and ``b`` of two classes on one trunk, which models of several tests learn."""

from __future__ import annotations

from emloop_mtl.tasks import Action, Task


def make_tasks() -> list[Task]:
    """Make the tasks, of the modules ``trunk``, ``a_head`` and ``b_head``; the second has half the weight."""
    features = Action("features", "trunk", "x")
    return [
        Task(
            name,
            flow=[features, Action(f"{name}_out", f"{name}_head", "features")],
            label=name,
            loss="cross_entropy",
            weight=weight,
        )
        for name, weight in (("a", 1.0), ("b", 0.5))
    ]
