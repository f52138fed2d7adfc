from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor


@pytest.mark.parametrize(
    "wait",
    [
        lambda tensor: tensor.sum().item(),
        lambda tensor: bool(tensor.any()),
        lambda tensor: tensor.tolist()[0] if tensor.dim() == 0 else float(tensor[0]),
        lambda tensor: tensor[tensor > 0],
        lambda tensor: tensor.nonzero(),
        lambda tensor: tensor.unique(),
        lambda tensor: torch.equal(tensor, tensor),
        lambda tensor: torch.bincount(tensor),
    ],
)
def test_the_guard_notices_every_way_of_waiting(wait: Callable[[Tensor], Any], no_waiting: Any) -> None:
    tensor = torch.tensor([1, 2])
    with pytest.raises(AssertionError, match="waits for the device"), no_waiting():
        wait(tensor)
