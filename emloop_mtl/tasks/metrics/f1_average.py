"""F1 of every class, averaged."""

from __future__ import annotations

import math

from .class_counts import ClassCounts


class F1Average(ClassCounts):
    """The mean of the F1 of all classes that occur among labels or predictions.

    :param name: what the score is called
    :param weighted: whether a class counts by the number of its labels
    """

    def __init__(self, name: str = "f1_macro", weighted: bool = False) -> None:
        self.weighted = weighted
        super().__init__(name)

    def combine(self, gold: list[float], found: list[float], right: list[float]) -> float:
        scores = [(2 * r / (g + f), g) for g, f, r in zip(gold, found, right, strict=True) if g + f]
        if not scores:
            return math.nan
        if self.weighted:
            return sum(score * weight for score, weight in scores) / sum(gold)
        return sum(score for score, _ in scores) / len(scores)
