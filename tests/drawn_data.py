"""Data of every sort for the trainings that are drawn."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, Subset, get_worker_info

from emloop_mtl import FileColumns
from emloop_mtl.data import ColumnDataset, TaskLoader

TASKS = ("a", "b", "c")
WIDTH = 3


def row(index: int, drawn: bool) -> dict[str, Any]:
    """A row; its values depend on what the global generators give where it draws."""
    extra = random.random() + np.random.rand() + torch.rand(()).item() if drawn else 0.0
    x = torch.arange(WIDTH) / (index + 1.0) + extra
    return {"x": x, "y": index % 2, "id": index}


class Rows(Dataset[Any]):
    def __init__(self, size: int, drawn: bool) -> None:
        self.size, self.drawn = size, drawn

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Any:
        return row(index, self.drawn)


class Rare(Rows):
    """Draws for some rows only, and not for the first."""

    def __getitem__(self, index: int) -> Any:
        return row(index, drawn=index % 4 == 3)


class Stream(IterableDataset[Any]):
    def __init__(self, size: int, drawn: bool) -> None:
        self.size, self.drawn = size, drawn

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for index in range(first, self.size, step):
            yield row(index, self.drawn)


class Sized(Stream):
    def __len__(self) -> int:
        return self.size


def columns(size: int, ragged: bool) -> ColumnDataset:
    features, y = tensors(size)
    if ragged:
        features["words"] = [torch.arange(1 + index % 3) for index in range(size)]
    return ColumnDataset("columns", features, {"y": y})


def tensors(size: int) -> tuple[dict[str, Any], torch.Tensor]:
    rows = [row(index, drawn=False) for index in range(size)]
    features = {"x": torch.stack([each["x"] for each in rows]), "id": torch.arange(size)}
    return features, torch.tensor([each["y"] for each in rows])


def tokens(size: int) -> ColumnDataset:
    """Sequences whose tokens have a label each, every fifth of them none."""
    features, _ = tensors(size)
    words = [torch.arange(1 + index % 3) for index in range(size)]
    tags = [(each + index) % 2 for index, each in enumerate(words)]
    tags = [torch.where((each + index) % 5 == 0, -100, each) for index, each in enumerate(tags)]
    return ColumnDataset("tokens", {**features, "words": words}, {"tags": tags})


def from_file(size: int, folder: Path) -> FileColumns:
    """Columns that are mapped from a file, which stays the same from run to run."""
    file = folder / f"{size}.npz"
    if not file.exists():
        features, y = tensors(size)
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(file, y=y.numpy(), **{name: values.numpy() for name, values in features.items()})
    return FileColumns(file, labels=["y"])


def make_dataset(kind: str, size: int, folder: Path) -> Any:
    match kind:
        case "columns" | "ragged":
            return columns(size, kind == "ragged")
        case "tokens":
            return tokens(size)
        case "subset of tokens":
            return Subset(tokens(size + 2), range(1, size + 1))
        case "file":
            return from_file(size, folder)
        case "subset":
            return Subset(columns(size + 2, ragged=False), range(1, size + 1))
        case "rows" | "drawn rows":
            return Rows(size, kind != "rows")
        case "rare rows":
            return Rare(size, drawn=True)
        case "drawn subset":
            return Subset(Rows(size + 2, drawn=True), range(1, size + 1))
        case "iterable" | "drawn iterable":
            return Stream(size, kind != "iterable")
        case _:
            return Sized(size, drawn=True)


WITH_ROWS = ("columns", "ragged", "subset", "file", "rows", "drawn rows", "rare rows", "drawn subset")
OF_TOKENS = ("tokens", "subset of tokens")
ITERABLE = ("iterable", "drawn iterable", "sized iterable")


@dataclass(frozen=True)
class LoaderPlan:
    """A loader, and the tasks that its labels are of."""

    name: str
    split: str
    kind: str
    size: int
    options: dict[str, Any]
    tasks: tuple[str, ...]

    def make(self, num_workers: Any, folder: Path) -> TaskLoader:
        tasks = dict.fromkeys(self.tasks, "tags" if self.kind in OF_TOKENS else "y")
        if self.kind in ITERABLE and num_workers not in (0, 1):
            num_workers = 1  # with more, such a dataset is another one
        dataset = make_dataset(self.kind, self.size, folder)
        return TaskLoader(dataset, tasks, self.split, name=self.name, num_workers=num_workers, **self.options)
