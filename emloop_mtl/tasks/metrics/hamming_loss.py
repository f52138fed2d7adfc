"""The share of wrong predictions."""

from __future__ import annotations

import math

from .accuracy import Accuracy


class HammingLoss(Accuracy):
    """The share of labels that were not predicted, entry by entry.

    :param name: what the score is called
    """

    def __init__(self, name: str = "hamming_loss") -> None:
        super().__init__(name)

    def score(self, sums: list[float]) -> float:
        counted, right = sums
        return (counted - right) / counted if counted else math.nan
