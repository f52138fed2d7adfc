"""The accuracy where every class counts alike."""

from __future__ import annotations

import math

from .class_counts import ClassCounts
from .counts import Counts


class BalancedAccuracy(ClassCounts):
    """The mean recall of the classes that have a label.

    :param name: what the score is called
    :param adjusted: whether 0 is what guessing reaches, so that it lies between 1 / (1 - classes) and 1; nan where
        there are labels of one class only
    """

    def __init__(self, name: str = "balanced_accuracy", adjusted: bool = False) -> None:
        self.adjusted = adjusted
        super().__init__(name)

    def combine(self, counts: Counts) -> float:
        recalls = [right / gold for gold, right in zip(counts.gold, counts.right, strict=True) if gold]
        if not recalls:
            return math.nan
        score = sum(recalls) / len(recalls)
        if not self.adjusted:
            return score
        chance = 1 / len(recalls)
        return (score - chance) / (1 - chance) if chance < 1 else math.nan
