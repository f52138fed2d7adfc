"""Whether the flows of several tasks can be run together."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from ..errors import ConfigError, nearest
from .action import Action
from .flow_outputs import FlowOutputs
from .plan import Plan, certain_sources
from .task import Task

__all__ = ["FlowOutputs", "Plan", "check_flow"]


def check_flow(
    tasks: Iterable[Task], module_names: Collection[str], source_names: Collection[str] | None = None
) -> None:
    """Check that the flows of all tasks can be run together.

    :param tasks: the tasks
    :param module_names: the modules that there are
    :param source_names: the sources that there are; None if that is not known, then an input that is no action's
        output is taken for a source
    :raise ConfigError: for an unknown module or input, an action that needs a later one, an action named like a
        source, and actions of one name that differ
    """
    tasks = list(tasks)
    owners: dict[str, tuple[Task, Action]] = {}
    named_sources = {source for task in tasks for action in task.flow for source in certain_sources(action)}
    for task in tasks:
        for name in task.module_device:
            if name not in module_names:
                raise _error(task, f"module_device: no module {name!r}{nearest(name, module_names)}", "module_device")
        made: set[str] = set()
        for index, action in enumerate(task.flow):
            place = ("flow", index)
            if action.module not in module_names:
                text = f"action {action.name!r}: no module {action.module!r}{nearest(action.module, module_names)}"
                raise _error(task, text, *place, "module")
            if action.name in made:
                raise _error(task, f"two actions are called {action.name!r}", *place, "name")
            if action.name in (named_sources if source_names is None else source_names):
                raise _error(task, f"action {action.name!r} is called like a source; rename it", *place, "name")
            other, twin = owners.setdefault(action.name, (task, action))
            if twin != action:
                text = f"action {action.name!r} has another module or other inputs than in task {other.name!r}"
                raise _error(task, f"{text}; rename one of them, or make them equal to share it", *place)
            _check_inputs(task, action, made, tasks, source_names, place)
            made.add(action.name)


def _check_inputs(
    task: Task,
    action: Action,
    made: set[str],
    tasks: Sequence[Task],
    source_names: Collection[str] | None,
    place: tuple[str, int],
) -> None:
    later = {entry.name for entry in task.flow} - made
    elsewhere = {entry.name: owner.name for owner in tasks for entry in owner.flow}
    for part in action.inputs:
        problem = ""
        if part.is_source:
            source = str(part.path[0]) if part.path else None
            if source is not None and source_names is not None and source not in source_names:
                problem = f"there is no source {source!r}{nearest(source, source_names)}"
        elif part.name in made:
            continue
        elif part.name in later:
            problem = "it is made by this action itself" if part.name == action.name else "it is made by a later action"
        elif source_names is not None and part.name in source_names:
            continue
        elif part.name in elsewhere:
            problem = (
                f"only task {elsewhere[part.name]!r} has an action {part.name!r}; put that action into this flow too, "
                "it runs once for both"
            )
        elif source_names is not None:
            problem = f"there is no such source or earlier action{nearest(part.name, {*made, *source_names})}"
        if problem:
            raise _error(task, f"action {action.name!r}, input '{part}': {problem}", *place, "inputs")


def _error(task: Task, message: str, *path: str | int) -> ConfigError:
    return ConfigError(f"task {task.name!r}: {message}", (task.name, *path))
