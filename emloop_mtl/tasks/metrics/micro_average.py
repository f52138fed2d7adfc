"""Precision, recall or both of the labels of all classes together."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from torch import Tensor

from ...errors import DataError
from .align import align_classes, are_label_sets, count, fit_classes
from .read_option import read_zero_division
from .sum_metric import SumMetric


class MicroAverage(SumMetric):
    """(1 + β²)PR / (β²P + R) with precision P and recall R of all classes together.

    Where every entry has one label and one prediction, a wrong one is missed by one class and found by another, so that
    all of them are the accuracy. Where labels are 0 or 1 each by itself, what counts is which of them are 1.

    :param name: what the score is called
    :param beta: 0 for the precision, infinity for the recall
    :param zero_division: the score where there is nothing to divide by: 0, 1 or nan
    """

    compares_classes: ClassVar[bool] = True
    counts_together: ClassVar[bool] = True

    def __init__(self, name: str, beta: float, zero_division: float | Literal["nan"] = 0.0) -> None:
        self.zero_division = read_zero_division(name, zero_division)
        self.beta = beta
        super().__init__(name)

    def sums(self, label: Tensor, prob: Tensor | None, pred: Tensor | None) -> Tensor:
        if are_label_sets(label, prob, pred, self.has_label_sets):
            label, pred = fit_classes(self.name, label, prob, pred, sets=True)
            kept = None if self.ignored_label is None else label != self.ignored_label
            gold, found = label == 1, pred == 1
            outside = ~((gold | (label == 0)) & (found | (pred == 0)))
            return count(gold, found, gold & found, outside, kept=kept)
        label, pred, kept = align_classes(self.name, label, prob, pred, self.ignored_label, self.has_label_sets)
        return count(label == pred, kept=kept)

    def score(self, sums: list[float]) -> float:
        if len(sums) == 2:  # every entry is a label of one class and predicted as one
            entries, both = sums
            return both / entries if entries else math.nan
        entries, gold, found, both, outside = sums
        if outside:
            raise DataError(f"metric {self.name!r}: {int(outside)} labels or predictions are outside 0..1")
        return quotient(self.beta, gold, found, both, self.zero_division) if entries else math.nan


def quotient(beta: float, gold: float, found: float, both: float, undefined: float) -> float:
    """Return (1 + β²)PR / (β²P + R) of one class, or ``undefined`` where there is nothing to divide by.

    :param beta: 0 for the precision, infinity for the recall
    :param gold: how often the class is the label
    :param found: how often it is predicted
    :param both: how often it is both
    """
    # With P = both / found and R = both / gold, the formula becomes one quotient of counts.
    if math.isinf(beta):
        return both / gold if gold else undefined
    square = beta * beta
    below = square * gold + found
    return (1 + square) * both / below if below else undefined
