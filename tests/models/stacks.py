"""What tests of tasks that run as one share: how they are changed, and how states are compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from emloop_mtl.data.batch import Batch
from emloop_mtl.models.multi_task_model import MultiTaskModel

MakeHeads = Callable[..., MultiTaskModel]
MakeBatch = Callable[..., Batch]


ALL = [("t0", "t1", "t2", "t3")]


def same_state(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether two states are equal, tensors to the bit."""
    if first.keys() != second.keys():
        return False
    return all(
        same_state(value, second[key])
        if isinstance(value, dict)
        else torch.equal(value, second[key])
        if isinstance(value, torch.Tensor)
        else value == second[key]
        for key, value in first.items()
    )


def watch(model: MultiTaskModel) -> None:
    model.network["t1_head"][0].register_forward_hook(lambda *_: None)


def watch_backward(model: MultiTaskModel) -> None:
    model.network["t1_head"].register_full_backward_hook(lambda *_: None)


def watch_the_gradient(model: MultiTaskModel) -> None:
    model.network["t1_head"][0].weight.register_hook(lambda gradient: gradient)


def change_the_gradient(model: MultiTaskModel) -> None:
    def halve(weight: torch.Tensor) -> None:
        assert weight.grad is not None
        weight.grad /= 2

    model.network["t1_head"][0].weight.register_post_accumulate_grad_hook(halve)


def freeze(model: MultiTaskModel) -> None:
    model.network["t1_head"].requires_grad_(False)


def assign(model: MultiTaskModel) -> None:
    model.network["t1_head"].load_state_dict(model.network["t1_head"].state_dict(), assign=True)


def move(model: MultiTaskModel) -> None:
    model.network["t1_head"][0].weight.data = model.network["t1_head"][0].weight.data + 1


def append(model: MultiTaskModel) -> None:
    model.network["t1_head"].append(nn.Dropout(0.5))


def exchange(model: MultiTaskModel) -> None:
    model.network["t1_head"] = nn.Sequential(nn.Identity(), model.network["t1_head"][0])


def override(model: MultiTaskModel) -> None:
    head = model.network["t1_head"]
    head.forward = lambda value: nn.Sequential.forward(head, 2 * value)  # type: ignore[method-assign]


def constrain(model: MultiTaskModel) -> None:
    parametrize.register_parametrization(model.network["t1_head"][0], "weight", nn.Identity())
