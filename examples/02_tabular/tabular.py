"""Three tables with inputs of their own, and the tasks that send them through one trunk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.model_selection import train_test_split
from torch import nn

from emloop_mtl import Action, ColumnDataset, MultiTaskDataset, Task, TaskLoader


class Table(NamedTuple):
    """A data set and what is to be learnt from it."""

    load: Callable[..., Any]
    task: str
    columns: int
    outputs: int
    loss: str
    metrics: Sequence[str]


TABLES = {
    "cancer": Table(
        load=load_breast_cancer,
        task="benign",
        columns=30,
        outputs=2,
        loss="cross_entropy",
        metrics=["accuracy", "f1", "matthews_correlation", "roc_auc"],
    ),
    "wine": Table(
        load=load_wine,
        task="cultivar",
        columns=13,
        outputs=3,
        loss="cross_entropy",
        metrics=["accuracy", "f1_macro"],
    ),
    "diabetes": Table(
        load=load_diabetes,
        task="progression",
        columns=10,
        outputs=1,
        loss="mse_loss",
        metrics=["mean_squared_error", "pearson_correlation", "spearman_correlation"],
    ),
}
"""The tables by name. A table's features are a source of the table's name, its labels one of the task's name."""


class Tabular(MultiTaskDataset):
    """Breast cancer, wine and diabetes as they come with scikit-learn, each split into 60, 20 and 20 percent.

    Sources: ``cancer`` float32 [n, 30], ``wine`` [n, 13], ``diabetes`` [n, 10], and the labels ``benign`` int64 [n] in
    0..1, ``cultivar`` int64 [n] in 0..2, ``progression`` float32 [n]. All that is no class is standardised.

    :param batch_size: rows per batch
    :param settings: what every ``MultiTaskDataset`` takes: ``seed`` and ``streams``
    """

    def __init__(self, batch_size: int = 32, **settings: Any) -> None:
        super().__init__(**settings)
        self._batch_size = batch_size

    def loaders(self) -> list[TaskLoader]:
        """Return a loader per table and split; its batches carry the task of its table."""
        loaders = []
        for name, table in TABLES.items():
            features, labels = table.load(return_X_y=True)
            is_class = table.loss == "cross_entropy"
            splits = split_rows(labels, stratify=is_class)
            features = standardise(features, splits["train"])
            labels = torch.as_tensor(labels) if is_class else standardise(labels, splits["train"])
            for split, rows in splits.items():
                data = ColumnDataset(name, features={name: features[rows]}, labels={table.task: labels[rows]})
                tasks = {table.task: table.task}  # task: its label
                loaders.append(TaskLoader(data, tasks, split, batch_size=self._batch_size))
        return loaders


def split_rows(labels: np.ndarray, stratify: bool) -> dict[str, np.ndarray]:
    """Return the rows of every split, the same in every run whatever its seed.

    :param stratify: whether every split gets its share of each class
    """
    rows, splits = np.arange(len(labels)), {}
    for split, share in (("test", 0.2), ("valid", 0.25)):
        classes = labels[rows] if stratify else None
        rows, splits[split] = train_test_split(rows, test_size=share, random_state=0, stratify=classes)
    return {"train": rows, **splits}


def standardise(values: np.ndarray, train: np.ndarray) -> torch.Tensor:
    """Return ``values`` with mean 0 and deviation 1 over the training rows; the other rows have no say in it."""
    scaled = (values - values[train].mean(axis=0)) / values[train].std(axis=0)
    return torch.as_tensor(scaled, dtype=torch.float32)


def make_tasks(width: int = 64, dropout: float = 0.5) -> list[Task]:
    """Return a task per table: an encoder of its own, the trunk of all, a head of its own.

    :param width: features that an encoder hands to the trunk, and the trunk to the heads
    :param dropout: share of the features that are left out in training, after the encoders and after the trunk
    """
    trunk = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Dropout(dropout))
    return [
        Task(
            table.task,
            modules={
                f"{name}_encoder": nn.Sequential(nn.Linear(table.columns, width), nn.ReLU(), nn.Dropout(dropout)),
                "trunk": trunk,
                f"{table.task}_head": nn.Linear(width, table.outputs),
            },
            flow=[
                Action(f"{name}_encoded", f"{name}_encoder", name),
                Action(f"{name}_features", "trunk", f"{name}_encoded"),
                Action(f"{table.task}_output", f"{table.task}_head", f"{name}_features"),
            ],
            label=table.task,
            loss=table.loss,
            metrics=table.metrics,
        )
        for name, table in TABLES.items()
    ]
