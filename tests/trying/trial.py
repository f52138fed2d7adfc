"""What tests of trying a model before its training share: data, models and trainings."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from emloop_mtl import (
    AbstractModel,
    Action,
    ColumnDataset,
    MainLoop,
    MultiTaskDataset,
    MultiTaskModel,
    Task,
    TaskLoader,
)
from emloop_mtl.hooks import Evaluate, ScoreTasks, StopAfter

ROWS = 24


SETTINGS: Any = {"device": "cpu", "optimizer": {"class": "sgd", "lr": 0.1}}


class DatasetOf(MultiTaskDataset):
    """A dataset of given loaders."""

    def __init__(self, *loaders: TaskLoader, **settings: Any) -> None:
        super().__init__(**settings)
        self._loaders = list(loaders)

    def loaders(self) -> list[TaskLoader]:
        return self._loaders


def columns(name: str = "rows", **labels: Any) -> ColumnDataset:
    x = torch.randn(ROWS, 4, generator=torch.Generator().manual_seed(0))
    return ColumnDataset(name, {"x": x}, labels or {"y": torch.arange(ROWS) % 3})


def loader(data: Any = None, split: str = "train", tasks: Any = None, **settings: Any) -> TaskLoader:
    return TaskLoader(columns() if data is None else data, tasks or {"kind": "y"}, split, batch_size=8, **settings)


def make_model(trunk: nn.Module | None = None, head: nn.Module | None = None, **options: Any) -> MultiTaskModel:
    modules = {"trunk": trunk or nn.Linear(4, 5), "head": head or nn.Linear(5, 3)}
    flow = [Action("features", "trunk", "x"), Action("logits", "head", "features")]
    task = Task("kind", modules, flow, label="y", loss="cross_entropy", metrics=["accuracy"])
    return MultiTaskModel(task, **SETTINGS, **options)


def train(model: AbstractModel, *loaders: TaskLoader, hooks: Any = (), **options: Any) -> MainLoop:
    data = DatasetOf(*loaders)
    others = [name for name in ("valid", "test") if any(each.split == name for each in loaders)]
    evaluating = [Evaluate(others)] if others else []
    loop = MainLoop(model, data, [*evaluating, ScoreTasks(), *hooks, StopAfter(epochs=2)], **options)
    loop.run_training()
    return loop


class Counted(Dataset[Any]):
    """Rows that are counted where they are read, and that draw random numbers."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, index: int) -> dict[str, Any]:
        self.read.append(index)
        return {"x": torch.randn(4), "y": index % 3}


class Training(nn.Linear):
    """Cannot be evaluated."""

    def forward(self, x: Tensor) -> Tensor:
        assert self.training, "nothing is to be had of it"
        return super().forward(x)
