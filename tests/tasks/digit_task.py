"""A task of one action, for what is tested of any."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from emloop_mtl.tasks.action import Action
from emloop_mtl.tasks.task import Task


def make(loss: Any = None, **options: Any) -> Task:
    return Task("digit", flow=[Action("logits", "head", "x")], label="y", loss=loss, **options)


def loss_of(task: Task, output: Any, label: Any, rows: Tensor | None = None) -> Tensor:
    return task.task_loss({"logits": output}, label, rows)
