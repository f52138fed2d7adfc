"""The share of rows without a mistake."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from .align import fit_classes
from .sum_metric import SumMetric


class ExactMatch(SumMetric):
    """The share of rows all of whose labels were predicted; rows of nothing but ignored labels do not count.

    :param name: what the score is called
    """

    compares_classes: ClassVar[bool] = True
    counts_together: ClassVar[bool] = True

    def __init__(self, name: str = "exact_match") -> None:
        super().__init__(name)

    def sums(self, label: Tensor, prob: Tensor | None, pred: Tensor | None) -> Tensor:
        label, pred = fit_classes(self.name, label, prob, pred, self.has_label_sets)
        right = label == pred
        if label.dim() == 1:
            return torch.stack([torch.full((), len(label), device=right.device), right.sum()])
        kept = torch.ones_like(right) if self.ignored_label is None else label != self.ignored_label
        counts = kept.flatten(1).any(1)
        return torch.stack([counts.sum(), ((right | ~kept).flatten(1).all(1) & counts).sum()])

    def score(self, sums: list[float]) -> float:
        counted, right = sums
        return right / counted if counted else math.nan
