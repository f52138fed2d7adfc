"""How many of those predicted are right."""

from __future__ import annotations

from typing import Literal

from .positive_counts import PositiveCounts


class Precision(PositiveCounts):
    """The share of right ones among the predictions of one class; 0 where it is never predicted.

    :param name: what the score is called
    :param positive: the class
    :param zero_division: the score where it is never predicted: 0, 1 or nan
    """

    def __init__(self, name: str = "precision", positive: int = 1, zero_division: float | Literal["nan"] = 0.0) -> None:
        super().__init__(name, positive, zero_division)

    def ratio(self, both: float, gold: float, found: float, accuracy: float) -> float:
        return both / found if found else self.zero_division
