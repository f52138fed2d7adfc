"""The mean absolute difference."""

from __future__ import annotations

import torch
from torch import Tensor

from .align_values import align_values
from .sum_metric import SumMetric


class MeanAbsoluteError(SumMetric):
    """The mean of |label - value| over all entries, added up in float64.

    :param name: what the score is called
    """

    needs: frozenset[str] = frozenset({"prob"})

    def __init__(self, name: str = "mean_absolute_error") -> None:
        super().__init__(name)

    def sums(self, label: Tensor, prob: Tensor | None, pred: Tensor | None) -> Tensor:
        label, prob = align_values(self.name, label, prob)
        total = (label.double() - prob.double()).abs().sum()
        return torch.stack([total, torch.full_like(total, label.numel())])

    def score(self, sums: list[float]) -> float:
        return sums[0] / sums[1]
