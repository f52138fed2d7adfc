"""What metrics of all classes are made of."""

from __future__ import annotations

from typing import NamedTuple


class Counts(NamedTuple):
    """How often every class is the label, is predicted, and is both; of labels of their own, how often each is 1."""

    gold: list[float]
    found: list[float]
    right: list[float]
    of_sets: bool
    """Whether these are columns of labels that are 0 or 1 each by itself."""
    entries: float
    """How many labels count; of columns together."""
