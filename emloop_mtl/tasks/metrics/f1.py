"""F1 of one class against the rest."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor

from .align import align_classes, count
from .sum_metric import SumMetric


class F1(SumMetric):
    """The harmonic mean of precision and recall of class 1 against the rest; 0 where both are undefined.

    :param name: what the score is called
    :param positive: the class that is looked for
    """

    compares_classes: ClassVar[bool] = True

    def __init__(self, name: str = "f1", positive: int = 1) -> None:
        self.positive = positive
        super().__init__(name)

    def sums(self, label: Tensor, prob: Tensor | None, pred: Tensor | None) -> Tensor:
        label, pred, kept = align_classes(self.name, label, prob, pred, self.ignored_label)
        gold, found = label == self.positive, pred == self.positive
        return count(gold & found, gold, found, kept=kept)

    def score(self, sums: list[float]) -> float:
        counted, right, gold, found = sums
        if not counted:
            return math.nan
        return 2 * right / (gold + found) if gold + found else 0.0
