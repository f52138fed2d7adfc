"""What is trained: networks so small that a step is nearly all overhead, and batches that lie ready in memory.

Every network is a trunk (64 features in) with a head of 10 classes per task. Larger ones hide what is measured here.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

FEATURES, CLASSES = 64, 10
BATCH_SIZE = 32
BATCHES = 100
"""Different batches; an epoch goes through them again and again."""
VALID_BATCHES = 20

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"lr": 0.01},  # the cheapest update there is, so the strictest comparison
    "adamw": {"lr": 0.001},  # what most people train with
}

Batch = dict[str, Tensor]


class Workload(NamedTuple):
    """A network, its batches, and what is made of them.

    :param feeding: ``ready`` batches that carry all tasks, the same rows as ``columns``, ready batches that carry a
        task each with an update per batch (``turns``) or per round (``joint``)
    :param steps: steps of an epoch, so that it lasts 0.5 to 1 second by hand
    :param target: what the engine may take, in times of the loop by hand
    """

    name: str
    title: str
    feeding: Literal["ready", "columns", "turns", "joint"]
    tasks: int
    width: int
    steps: int
    target: float


def _many(tasks: int, steps: int, target: float) -> Workload:
    return Workload(f"C {tasks}", f"tasks in one batch: {tasks}", "ready", tasks, 128, steps, target)


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("A", "MLP 64-64-10, ready batches", "ready", 1, 64, 2500, 1.10),
        Workload("A2", "the same rows from columns, by hand from a DataLoader", "columns", 1, 64, 1500, 0.65),
        Workload("B", "4 tasks in turn, trunk 64-128", "turns", 4, 128, 2200, 1.10),
        Workload("B joint", "4 batches, one update", "joint", 4, 128, 700, 1.10),
        _many(1, 2200, 1.10),
        _many(4, 1100, 0.85),
        _many(16, 350, 0.45),
        _many(64, 100, 0.30),
    )
}


def task_name(index: int) -> str:
    return f"task_{index}"


def head_name(index: int) -> str:
    return f"head_{index}"


def label_name(index: int) -> str:
    return f"label_{index}"


def make_modules(workload: Workload, more_tasks: int = 0) -> nn.ModuleDict:
    """Return trunk and heads, the same ones in every process.

    :param more_tasks: heads of tasks that no batch carries
    """
    torch.manual_seed(0)
    modules = nn.ModuleDict({"trunk": nn.Sequential(nn.Linear(FEATURES, workload.width), nn.ReLU())})
    for index in range(workload.tasks + more_tasks):
        modules[head_name(index)] = nn.Linear(workload.width, CLASSES)
    return modules


def make_batches(workload: Workload, split: str, count: int | None = None) -> list[Batch]:
    """Return the batches of ``train`` or ``valid``, the same ones in every process.

    With a feeding of ``turns`` or ``joint`` the tasks alternate; otherwise every batch carries all.

    :param count: how many; None for as many as are trained on, or evaluated
    """
    generator = torch.Generator().manual_seed(1 if split == "train" else 2)
    batches = []
    for number in range(count or (BATCHES if split == "train" else VALID_BATCHES)):
        batch = {"x": torch.randn(BATCH_SIZE, FEATURES, generator=generator)}
        alternates = workload.feeding in ("turns", "joint")
        for task in [number % workload.tasks] if alternates else range(workload.tasks):
            batch[label_name(task)] = torch.randint(CLASSES, (BATCH_SIZE,), generator=generator)
        batches.append(batch)
    return batches


def as_columns(batches: list[Batch]) -> Batch:
    """Return the rows of batches that hold the same sources, one after another."""
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
