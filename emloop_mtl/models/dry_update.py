"""What stands for a model's update where nothing is updated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from .cannot_tell import CannotTell


class DryUpdate:
    """Takes the losses of batches that are only tried, and has nothing else of an ``Update``."""

    repeats = False
    watch = None

    def backward(self, loss: Tensor, closure: Callable[[], Tensor], conditions: object) -> None:
        """Leave the gradients what they are."""

    def end_step(self) -> None:
        """Leave the weights what they are."""

    def __getattr__(self, name: str) -> Any:
        raise CannotTell(f"a batch cannot be tried where 'update.{name}' is asked for")
