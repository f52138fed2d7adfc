"""The correlation of labels and predictions as classes."""

from __future__ import annotations

import math

from .class_counts import ClassCounts
from .counts import Counts


class MatthewsCorrelation(ClassCounts):
    """Matthews' correlation coefficient for any number of classes; 0 if there is one class of labels or predictions.

    Gorodkin, "Comparing two K-category assignments by a K-category correlation coefficient", 2004, equation 8.

    :param name: what the score is called
    """

    def __init__(self, name: str = "matthews_corrcoef") -> None:
        super().__init__(name)

    def combine(self, counts: Counts) -> float:
        gold, found, total = counts.gold, counts.found, counts.entries
        if not total:
            return math.nan
        # Counts are whole numbers, so all is exact up to the last line.
        together = sum(counts.right) * total - sum(g * f for g, f in zip(gold, found, strict=True))
        of_gold = total * total - sum(g * g for g in gold)
        of_found = total * total - sum(f * f for f in found)
        return together / math.sqrt(of_gold * of_found) if of_gold and of_found else 0.0
