"""Two correlations in one number."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from torch import Tensor

from .align_values import align_numbers
from .keeping_metric import KeepingMetric
from .pearson_correlation import PearsonCorrelation
from .spearman_correlation import spearman


class PearsonSpearman(KeepingMetric):
    """The mean of Pearson's and Spearman's correlation; nan where one of them is.

    :param name: what the score is called
    """

    needs: frozenset[str] = frozenset({"prob"})
    compares_numbers: ClassVar[bool] = True

    def __init__(self, name: str = "pearson_spearman") -> None:
        super().__init__(name)

    def update(self, label: Tensor, prob: Tensor | None, pred: Tensor | None, uids: Any = None) -> None:
        label, prob = align_numbers(self.name, label, prob)
        super().update(label, prob, None)

    def compute(self) -> dict[str, float]:
        label, prob = self.fetch("label"), self.fetch("prob")
        if label is None or prob is None:
            return {self.name: math.nan}
        linear = PearsonCorrelation("linear")
        linear.update(label, prob, None)
        return {self.name: (linear.compute()["linear"] + spearman(label, prob)[0]) / 2}
