"""A small multi-task training to run hooks in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from emloop_mtl import hook_list, main_loop
from emloop_mtl.data import stream_wrapper
from emloop_mtl.data.column_dataset import ColumnDataset
from emloop_mtl.data.multi_task_dataset import MultiTaskDataset
from emloop_mtl.data.task_loader import TaskLoader
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.tasks.task import Task

from .clock import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time that the main loop and its parts measure."""
    clock = Clock()
    for module in (hook_list, main_loop, stream_wrapper):
        monkeypatch.setattr(module, "perf_counter", clock)
    return clock


class TwoTasks(MultiTaskDataset):
    """12 rows of ``image`` with the labels ``digit`` (three classes) and ``size`` (a number, nan in the first row)."""

    def loaders(self) -> list[TaskLoader]:
        tasks = {"digit": "digit", "size": "size"}
        return [
            TaskLoader(self._rows(split), tasks, split, name="shapes", batch_size=4)
            for split in ("train", "valid", "test")
        ]

    @staticmethod
    def _rows(split: str) -> ColumnDataset:
        generator = torch.Generator().manual_seed(len(split))
        image = torch.randn(12, 3, generator=generator)
        size = image.sum(1)
        size[0] = float("nan")
        return ColumnDataset("shapes", {"image": image}, {"digit": image.argmax(1), "size": size})


def two_task_model(digit_metrics: Sequence[Any] = ("accuracy",), **settings: Any) -> MultiTaskModel:
    """Build a model of the tasks ``digit`` (accuracy) and ``size`` (mean squared error), the same one every time."""
    modules: dict[str, nn.Module] = {
        "trunk": nn.Linear(3, 4),
        "digit_head": nn.Linear(4, 3),
        "size_head": nn.Linear(4, 1),
    }
    generator = torch.Generator().manual_seed(1)
    for module in modules.values():
        for parameter in module.parameters():
            nn.init.uniform_(parameter, -0.5, 0.5, generator=generator)

    def flow(head: str) -> list[dict[str, str]]:
        return [
            {"name": "features", "module": "trunk", "inputs": "image"},
            {"name": f"{head}_out", "module": head, "inputs": "features"},
        ]

    tasks = [
        Task("digit", flow=flow("digit_head"), label="digit", loss="cross_entropy", metrics=list(digit_metrics)),
        Task(
            "size",
            flow=flow("size_head"),
            label="size",
            loss="mse_loss",
            metrics=["mean_squared_error"],
            missing_label=float("nan"),
        ),
    ]
    return MultiTaskModel(tasks, modules, optimizer={"class": "sgd", "lr": 0.1}, device="cpu", **settings)


@pytest.fixture
def make_dataset() -> Callable[..., MultiTaskDataset]:
    """The class of a dataset of two tasks whose streams train, valid and test have three batches of four rows."""
    return TwoTasks


@pytest.fixture
def make_model() -> Callable[..., MultiTaskModel]:
    """Make the model of these tasks, with the same weights every time."""
    return two_task_model
