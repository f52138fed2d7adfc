"""The correlation of the ranks of labels and predicted values."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from .align_values import align_numbers
from .correlation import Correlation
from .keeping_metric import KeepingMetric


class SpearmanCorrelation(Correlation, KeepingMetric):
    """Spearman's correlation of labels and predicted values, one of each per row; equals share their mean rank.

    It is nan for fewer than two rows, where labels or predictions are all the same, and where one is nan.

    :param name: what the score is called
    :param return_pvalue: report as ``spearman_pvalue``, too, how probable a correlation at least that strong is where
        there is none (two-sided, by Student's t distribution)
    """

    def __init__(self, name: str = "spearman_correlation", return_pvalue: bool = False) -> None:
        super().__init__(name, return_pvalue)

    def update(self, label: Tensor, prob: Tensor | None, pred: Tensor | None, uids: Any = None) -> None:
        label, prob = align_numbers(self.name, label, prob)
        super().update(label, prob, None)

    def compute(self) -> dict[str, float]:
        return dict(zip(self.names, spearman(self.fetch("label"), self.fetch("prob")), strict=False))


def spearman(label: Tensor | None, value: Tensor | None) -> tuple[float, float]:
    """Return Spearman's correlation of [n] numbers on the host and its p-value; nan where it is undefined."""
    if label is None or value is None or len(label) < 2:
        return math.nan, math.nan
    if any(bool((each == each[0]).all()) for each in (label, value)):  # SciPy would warn of it
        return math.nan, math.nan
    from scipy.stats import spearmanr

    found = spearmanr(label.double().numpy(), value.double().numpy())
    return float(found.statistic), float(found.pvalue)
