"""A model of the tasks ``kind`` and ``size``, and batches for it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from emloop_mtl.data.batch import Batch
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.tasks import Action, Task

SGD = {"class": "sgd", "lr": 0.1, "momentum": 0.9}


def make_modules() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {
        "trunk": nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.5)),
        "kind_head": nn.Linear(8, 4),
        "size_head": nn.Linear(8, 1),
    }


def make_tasks(**options: Any) -> list[Task]:
    features = Action("features", "trunk", "x")
    kind = Task(
        "kind",
        flow=[features, Action("kind_logits", "kind_head", "features")],
        label="kind",
        loss="cross_entropy",
        metrics=["accuracy", "f1_macro"],
        **options,
    )
    size = Task(
        "size",
        flow=[features, Action("size_value", "size_head", "features")],
        label="size",
        loss="mse_loss",
        weight=0.5,
        metrics=["mean_squared_error"],
    )
    return [kind, size]


def make_model(**options: Any) -> MultiTaskModel:
    tasks = options.pop("tasks", None) or make_tasks()
    return MultiTaskModel(
        tasks, make_modules(), optimizer=options.pop("optimizer", SGD), **{"device": "cpu", **options}
    )


def make_batch(rows: int = 6, seed: int = 0, **attributes: Any) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    sources = {
        "x": torch.randn(rows, 3, generator=generator),
        "kind": torch.randint(4, (rows,), generator=generator),
        "size": torch.randn(rows, generator=generator),
    }
    return Batch(sources, **attributes)


class Outputs:
    """Stands for a stream that says which outputs somebody reads."""

    def __init__(self, *names: str) -> None:
        self.outputs = frozenset(names)


def train(model: MultiTaskModel, steps: Sequence[int]) -> None:
    for step in steps:
        torch.manual_seed(step)
        model.run(make_batch(seed=step), train=True)
