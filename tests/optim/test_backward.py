from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from emloop_mtl.optim.backward import Backward


@pytest.mark.parametrize("factor", [1.0, 1 / 3])
def test_gradients_are_those_of_the_loss_times_the_factor(factor: float) -> None:
    weight, twin = (nn.Parameter(torch.tensor([1.5, -2.0])) for _ in range(2))
    backward = Backward()
    for _ in range(2):
        backward((weight**3).sum(), factor)
        ((twin**3).sum() * factor).backward()
    assert weight.grad is not None
    assert twin.grad is not None
    assert weight.grad.tolist() == twin.grad.tolist()


def test_a_hook_that_changes_the_gradient_of_the_loss_in_place_does_so_once_a_step() -> None:
    weight = nn.Parameter(torch.tensor(1.0))
    backward = Backward()
    for _ in range(3):
        loss = weight * 2
        loss.register_hook(lambda gradient: gradient.mul_(10))
        backward(loss)
    assert weight.grad is not None
    assert weight.grad.item() == 3 * 2 * 10


def test_a_loss_that_is_a_parameter_keeps_its_gradient_to_itself() -> None:
    weight = nn.Parameter(torch.tensor(1.0))
    backward = Backward()
    backward(weight)
    assert weight.grad is not None
    weight.grad.mul_(5)
    weight.grad = None
    backward(weight)
    assert weight.grad.item() == 1.0


def test_modes_that_watch_torchs_functions_see_the_backward_pass() -> None:
    seen = []

    class Watch(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(func)
            return func(*args, **(kwargs or {}))

    loss = nn.Parameter(torch.tensor(1.0)) * 2
    with Watch():
        Backward()(loss)
    assert torch.autograd.backward in seen


def test_losses_of_several_dtypes_each_begin_with_a_gradient_of_their_own() -> None:
    backward = Backward()
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        weight = nn.Parameter(torch.tensor(1.0, dtype=dtype))
        backward(weight * 3)
        assert weight.grad is not None
        assert weight.grad.dtype == dtype
        assert weight.grad.item() == 3.0
