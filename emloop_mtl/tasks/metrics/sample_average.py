"""Precision, recall or both of the labels of each row, averaged over the rows."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ...errors import DataError
from .align import are_label_sets, fit_classes
from .read_option import read_zero_division
from .sum_metric import SumMetric


class SampleAverage(SumMetric):
    """The mean over the rows of (1 + β²)PR / (β²P + R), with precision P and recall R of the labels of one row.

    Labels [n, k] are 0 or 1 each by itself.

    :param name: what the score is called
    :param beta: 0 for the precision, infinity for the recall
    :param zero_division: the score of a row where there is nothing to divide by: 0, 1, or nan to leave it out
    """

    needs: frozenset[str] = frozenset({"prob", "pred"})
    compares_classes: ClassVar[bool] = True
    reads_label_sets: ClassVar[bool] = True

    def __init__(self, name: str, beta: float, zero_division: float | Literal["nan"] = 0.0) -> None:
        self.zero_division = read_zero_division(name, zero_division)
        self.beta = beta
        super().__init__(name)

    def sums(self, label: Tensor, prob: Tensor | None, pred: Tensor | None) -> Tensor:
        if not are_label_sets(label, prob, pred, self.has_label_sets):
            shape = tuple(label.shape)
            text = "needs several labels per row that are 0 or 1 each by itself, with a probability for each"
            raise DataError(f"metric {self.name!r} {text}; labels have the shape {shape}")
        label, pred = fit_classes(self.name, label, prob, pred, sets=True)
        kept = torch.ones_like(label, dtype=torch.bool) if self.ignored_label is None else label != self.ignored_label
        is_gold, is_found = (label == 1) & kept, (pred == 1) & kept
        outside = (~((is_gold | (label == 0)) & (is_found | (pred == 0))) & kept).sum()
        gold, found, both = (each.sum(1).double() for each in (is_gold, is_found, is_gold & is_found))
        if math.isinf(self.beta):
            above, below = both, gold
        else:
            square = self.beta * self.beta
            above, below = (1 + square) * both, square * gold + found
        undefined = below == 0
        scores = torch.where(undefined, self.zero_division, above / below)
        if math.isnan(self.zero_division):
            return torch.stack([scores.nan_to_num(0).sum(), (~undefined).sum().double(), outside.double()])
        return torch.stack([scores.sum(), torch.full_like(scores.sum(), len(scores)), outside.double()])

    def score(self, sums: list[float]) -> float:
        total, rows, outside = sums
        if outside:
            raise DataError(f"metric {self.name!r}: {int(outside)} labels or predictions are outside 0..1")
        return total / rows if rows else math.nan
