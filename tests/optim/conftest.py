"""A small model of two tasks, trained by the real parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from emloop_mtl.data.batch import Batch
from emloop_mtl.models.multi_task_model import MultiTaskModel

from ..two_tasks import make_tasks

MakeModel = Callable[..., MultiTaskModel]
MakeBatches = Callable[..., list[Batch]]


@pytest.fixture
def make_model() -> MakeModel:
    """Make a model of a trunk and two heads with the same weights each time; ``noise`` adds dropout and batch norm."""

    def make(
        optimizer: Any,
        update: Mapping[str, Any] | None = None,
        noise: bool = False,
        modules: Mapping[str, nn.Module] | None = None,
        **options: Any,
    ) -> MultiTaskModel:
        torch.manual_seed(0)
        layers: list[nn.Module] = [nn.Linear(3, 4)]
        layers += [nn.BatchNorm1d(4), nn.Dropout(0.5)] if noise else []
        known: Mapping[str, nn.Module] = {
            "trunk": nn.Sequential(*layers),
            "a_head": nn.Linear(4, 2),
            "b_head": nn.Linear(4, 2),
        }
        return MultiTaskModel(
            make_tasks(), modules or known, optimizer=optimizer, update=update, device="cpu", **options
        )

    return make


@pytest.fixture
def make_batches() -> MakeBatches:
    """Make the batches of a step, one of each task named."""

    def make(tasks: Sequence[str] = ("a", "b"), seed: int = 0, x: torch.Tensor | None = None) -> list[Batch]:
        generator = torch.Generator().manual_seed(seed)
        batches = []
        for task in tasks:
            source = torch.randn(8, 3, generator=generator) if x is None else x
            label = torch.randint(2, (8,), generator=generator)
            batches.append(Batch({"x": source, task: label}, tasks={task: task}, ends_step=task == tasks[-1]))
        return batches

    return make
