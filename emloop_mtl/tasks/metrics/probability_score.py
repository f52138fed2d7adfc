"""Metrics that are the mean of what each probability is worth."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from ...errors import DataError
from .align_probabilities import align_probabilities
from .probable import Probable
from .sum_metric import SumMetric


class ProbabilityScore(SumMetric):
    """A mean over all labels, each judged by the probabilities that it was given, added up in float64.

    :param name: what the score is called
    """

    needs: frozenset[str] = frozenset({"prob"})
    reads_probabilities: ClassVar[bool] = True

    def sums(self, label: Tensor, prob: Tensor | None, pred: Tensor | None) -> Tensor:
        rows = align_probabilities(self.name, label, prob, pred, self.ignored_label, self.has_label_sets)
        scores = torch.where(rows.counts, self.judge(rows), 0.0)
        return torch.stack([scores.sum(), rows.counts.sum(dtype=torch.float64), rows.outside.double()])

    def score(self, sums: list[float]) -> float:
        total, counted, outside = sums
        check_outside(self.name, outside)
        return total / counted if counted else math.nan

    @abstractmethod
    def judge(self, rows: Probable) -> Tensor:
        """Return a float64 number for each label, [m]; those that do not count may have any."""


def check_outside(name: str, outside: float) -> None:
    """Refuse labels that are no class with a probability.

    :raise DataError: with their number
    """
    if outside:
        raise DataError(f"metric {name!r}: {int(outside)} labels are no class that has a probability")
