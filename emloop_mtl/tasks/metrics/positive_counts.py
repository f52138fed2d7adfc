"""Metrics of one class against the rest."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar, Literal

from torch import Tensor

from ...errors import ConfigError
from .align import align_classes, count
from .read_option import read_zero_division
from .sum_metric import SumMetric


class PositiveCounts(SumMetric):
    """A metric that follows from how often a class is the label, how often it is predicted, and how often both.

    :param name: what the score is called
    :param positive: the class that is looked for
    :param zero_division: the score where there is nothing to divide by: 0, 1 or nan
    :raise ConfigError: if that is no class, or no such score
    """

    compares_classes: ClassVar[bool] = True
    counts_together: ClassVar[bool] = True

    def __init__(self, name: str, positive: int = 1, zero_division: float | Literal["nan"] = 0.0) -> None:
        if isinstance(positive, bool) or not isinstance(positive, int) or positive < 0:
            raise ConfigError(f"metric {name!r}: positive must be a class, 0, 1, …, not {positive!r}", ("positive",))
        self.positive = positive
        self.zero_division = read_zero_division(name, zero_division)
        super().__init__(name)

    def sums(self, label: Tensor, prob: Tensor | None, pred: Tensor | None) -> Tensor:
        label, pred, kept = align_classes(self.name, label, prob, pred, self.ignored_label, self.has_label_sets)
        gold, found = label == self.positive, pred == self.positive
        return count(gold & found, gold, found, label == pred, kept=kept)

    def score(self, sums: list[float]) -> float:
        counted, both, gold, found, right = sums
        return self.ratio(both, gold, found, right / counted) if counted else math.nan

    @abstractmethod
    def ratio(self, both: float, gold: float, found: float, accuracy: float) -> float:
        """Return the score of at least one entry.

        :param both: number of entries where the class is the label and predicted
        :param gold: number of entries where it is the label
        :param found: number of entries where it is predicted
        :param accuracy: the share of right predictions, whatever the class
        """
