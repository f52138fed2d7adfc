"""Mean losses of tasks that come in the same batches now and then."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..utils.running_means import RunningMeans


class SeparateMeans:
    """Takes in losses that come together, each by itself.

    :param means: of each number
    """

    def __init__(self, means: Sequence[RunningMeans]) -> None:
        self._means = means

    def add(self, values: Sequence[Tensor], weights: int | tuple[int, ...]) -> None:
        """Take in a value of each number, as ``RunningMeans`` does."""
        each = (weights,) * len(self._means) if isinstance(weights, int) else weights
        for means, value, weight in zip(self._means, values, each, strict=True):
            means.add([value], weight)
