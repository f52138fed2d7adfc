"""How many of those labelled are found."""

from __future__ import annotations

from typing import Literal

from .positive_counts import PositiveCounts


class Recall(PositiveCounts):
    """The share of the labels of one class that are predicted; 0 where it is never the label.

    :param name: what the score is called
    :param positive: the class
    :param zero_division: the score where it is never the label: 0, 1 or nan
    """

    def __init__(self, name: str = "recall", positive: int = 1, zero_division: float | Literal["nan"] = 0.0) -> None:
        super().__init__(name, positive, zero_division)

    def ratio(self, both: float, gold: float, found: float, accuracy: float) -> float:
        return both / gold if gold else self.zero_division
