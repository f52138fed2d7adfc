"""How many of those predicted are right."""

from __future__ import annotations

from .positive_counts import PositiveCounts


class Precision(PositiveCounts):
    """The share of right ones among the predictions of one class; 0 where it is never predicted.

    :param name: what the score is called
    :param positive: the class
    """

    def __init__(self, name: str = "precision", positive: int = 1) -> None:
        super().__init__(name, positive)

    def ratio(self, both: float, gold: float, found: float, accuracy: float) -> float:
        return both / found if found else 0.0
