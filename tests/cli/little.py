"""The data of the runs that are killed: two tasks, in all the ways in which data can come."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from emloop_mtl import AbstractDataset, ColumnDataset, MultiTaskDataset, TaskLoader

TASKS = {"one": (20, 3), "two": (14, 2)}
"""Rows of each split, and classes."""


def weights(numbers: Mapping[str, float]) -> dict[str, float]:
    """Give the task that is learnt worse the larger share."""
    return {task: numbers[f"{task}/{task}/valid/loss"] for task in TASKS}


def columns(task: str, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    rows, classes = TASKS[task]
    generator = torch.Generator().manual_seed(len(split))
    x = torch.randn(rows, 4, generator=generator)
    return x, (x[:, :classes].argmax(1))


class Columns(MultiTaskDataset):
    """Columns in memory, a loader for each task and split."""

    def loaders(self) -> Iterator[TaskLoader]:
        for task in TASKS:
            for split in ("train", "valid", "test"):
                x, y = columns(task, split)
                data = ColumnDataset(task, features={"x": x}, labels={f"{task}_y": y})
                yield TaskLoader(data, {task: f"{task}_y"}, split=split, batch_size=4)


class Augmented(Dataset[Any]):
    """Rows to which noise of all three global generators is added."""

    def __init__(self, task: str, split: str) -> None:
        self.name = task
        self._label = f"{task}_y"
        self._x, self._y = columns(task, split)

    def __len__(self) -> int:
        return len(self._x)

    def __getitem__(self, row: int) -> dict[str, Any]:
        noise = torch.rand(4) + random.random() + float(np.random.rand())
        return {"x": self._x[row] + noise, self._label: self._y[row]}


class Rows(MultiTaskDataset):
    """Rows that are augmented, read here or by other processes."""

    def __init__(self, num_workers: int = 0, **settings: Any) -> None:
        super().__init__(**settings)
        self._num_workers = num_workers

    def loaders(self) -> Iterator[TaskLoader]:
        for task in TASKS:
            for split in ("train", "valid", "test"):
                workers = self._num_workers if split == "train" and task == "one" else 0
                data = Augmented(task, split)
                yield TaskLoader(data, {task: f"{task}_y"}, split=split, batch_size=4, num_workers=workers)


class Plain(AbstractDataset):
    """Generators that draw from the global generators."""

    def __init__(self) -> None:
        super().__init__()

    def _stream(self, split: str) -> Iterator[Mapping[str, Any]]:
        for task in TASKS:
            x, y = columns(task, split)
            for rows in torch.randperm(len(x)).split(4):
                yield {"x": x[rows] + random.random(), f"{task}_y": y[rows]}

    def train_stream(self) -> Iterator[Mapping[str, Any]]:
        return self._stream("train")

    def valid_stream(self) -> Iterator[Mapping[str, Any]]:
        return self._stream("valid")

    def test_stream(self) -> Iterator[Mapping[str, Any]]:
        return self._stream("test")
