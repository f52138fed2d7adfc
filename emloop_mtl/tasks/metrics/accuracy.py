"""The share of right predictions."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor

from .align import align_classes, count
from .sum_metric import SumMetric


class Accuracy(SumMetric):
    """The share of labels that were predicted; with one class per entry this is the micro-averaged F1 as well.

    :param name: what the score is called
    :param normalize: false for the number of right predictions instead of their share
    """

    compares_classes: ClassVar[bool] = True
    counts_together: ClassVar[bool] = True

    def __init__(self, name: str = "accuracy", normalize: bool = True) -> None:
        self.normalize = normalize
        super().__init__(name)

    def sums(self, label: Tensor, prob: Tensor | None, pred: Tensor | None) -> Tensor:
        label, pred, kept = align_classes(self.name, label, prob, pred, self.ignored_label, self.has_label_sets)
        return count(label == pred, kept=kept)

    def score(self, sums: list[float]) -> float:
        counted, right = sums
        if not counted:
            return math.nan
        return right / counted if self.normalize else right
