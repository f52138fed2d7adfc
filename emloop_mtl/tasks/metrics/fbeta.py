"""Precision and recall of one class in one number."""

from __future__ import annotations

from typing import Literal

from .micro_average import quotient
from .positive_counts import PositiveCounts
from .read_option import name_of_beta, read_beta


class FBeta(PositiveCounts):
    """(1 + β²)PR / (β²P + R) with precision P and recall R of one class; 0 where the class never occurs.

    :param beta: how many times as much recall counts as precision, > 0
    :param name: what the score is called, by default ``f1``, ``f2``, ``f0.5`` after ``beta``
    :param positive: the class
    :param zero_division: the score where the class never occurs: 0, 1 or nan
    :raise ConfigError: for another ``beta``
    """

    def __init__(
        self,
        beta: float = 1.0,
        name: str | None = None,
        positive: int = 1,
        zero_division: float | Literal["nan"] = 0.0,
    ) -> None:
        self.beta = read_beta(beta)
        super().__init__(name_of_beta(beta) if name is None else name, positive, zero_division)

    def ratio(self, both: float, gold: float, found: float, accuracy: float) -> float:
        return quotient(self.beta, gold, found, both, self.zero_division)
