"""Precision, recall or both of every class, averaged or one by one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

from .class_counts import ClassCounts
from .counts import Counts
from .micro_average import quotient
from .read_option import read_choice, read_zero_division

AVERAGES = ("macro", "weighted", "per_class")
"""How the scores of classes become one, or stay as many as there are classes."""


class ClassAverage(ClassCounts):
    """(1 + β²)PR / (β²P + R) of all classes, with precision P and recall R of each.

    Classes that are neither a label nor predicted do not count in an average. Where labels are 0 or 1 each by itself,
    every column is a class, and all of them count.

    :param name: what the score is called; one for each class is called ``<name>_of_<class>``, where ``_per_class`` at
        the end of the name is left out
    :param beta: 0 for the precision, infinity for the recall
    :param average: ``macro`` for the mean over the classes, ``weighted`` for the mean in which a class counts by the
        number of its labels, ``per_class`` for all scores
    :param zero_division: the score of a class where there is nothing to divide by: 0, 1, or nan to leave it out of the
        average
    """

    by_column: ClassVar[bool] = True

    def __init__(
        self, name: str, beta: float, average: str = "macro", zero_division: float | Literal["nan"] = 0.0
    ) -> None:
        self.average = read_choice(name, "average", average, AVERAGES)
        self.zero_division = read_zero_division(name, zero_division)
        self.beta = beta
        super().__init__(name)

    @property
    def names(self) -> tuple[str, ...]:
        classes = self._num_columns()
        if self.average != "per_class" or classes is None:
            return (self.name,)
        return tuple(f"{self.name.removesuffix('_per_class')}_of_{number}" for number in range(classes))

    @property
    def names_are_known(self) -> bool:  # type: ignore[override]
        return self.average != "per_class" or self._num_columns() is not None

    def compute(self) -> dict[str, float]:
        if self.average != "per_class":
            return super().compute()
        if self._sums is None or self._rows == 0:
            return dict.fromkeys(self.names, math.nan)
        return dict(zip(self.names, self._of_classes(self.counts(self._sums.tolist())), strict=True))

    def combine(self, counts: Counts) -> float:
        if not counts.entries:
            return math.nan
        scores = self._of_classes(counts)
        gold, found = counts.gold, counts.found
        kept = [index for index in range(len(scores)) if counts.of_sets or gold[index] or found[index]]
        weights = [gold[index] for index in kept] if self.average == "weighted" else None
        return nan_mean([scores[index] for index in kept], weights)

    def _of_classes(self, counts: Counts) -> list[float]:
        if not counts.entries:
            return [math.nan] * len(counts.gold)
        classes = zip(counts.gold, counts.found, counts.right, strict=True)
        return [quotient(self.beta, *each, self.zero_division) for each in classes]

    def _num_columns(self) -> int | None:
        return self.num_classes if self._sums is None else (len(self._sums) - 1) // 3


def nan_mean(scores: Sequence[float], weights: Sequence[float] | None = None) -> float:
    """Return the mean of what is not nan, unweighted where all weights are 0; nan if nothing is left."""
    weights = [1.0] * len(scores) if weights is None else weights
    kept = [(score, weight) for score, weight in zip(scores, weights, strict=True) if not math.isnan(score)]
    if not kept:
        return math.nan
    total = sum(weight for _, weight in kept)
    if not total:
        return sum(score for score, _ in kept) / len(kept)
    return sum(score * weight for score, weight in kept) / total
