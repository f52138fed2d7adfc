"""Precision and recall of one class in one number."""

from __future__ import annotations

import math

from ...errors import ConfigError
from .positive_counts import PositiveCounts


class FBeta(PositiveCounts):
    """(1 + β²)PR / (β²P + R) with precision P and recall R of one class; 0 where the class never occurs.

    :param beta: how many times as much recall counts as precision, > 0
    :param name: what the score is called, by default ``f1``, ``f2``, ``f0.5`` after ``beta``
    :param positive: the class
    :raise ConfigError: for another ``beta``
    """

    def __init__(self, beta: float = 1.0, name: str | None = None, positive: int = 1) -> None:
        if isinstance(beta, bool) or not isinstance(beta, int | float) or not 0 < beta < math.inf:
            raise ConfigError(f"fbeta: beta must be a finite number > 0, not {beta!r}", ("beta",))
        self.beta = beta
        super().__init__(f"f{int(beta) if beta == int(beta) else beta}" if name is None else name, positive)

    def ratio(self, both: float, gold: float, found: float, accuracy: float) -> float:
        # With P = both / found and R = both / gold, the formula becomes one quotient of counts.
        square = self.beta * self.beta
        return (1 + square) * both / (square * gold + found) if gold or found else 0.0
