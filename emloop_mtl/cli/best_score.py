"""The best value of a number in a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BestScore:
    """The best value of a number in a run.

    :param name: the number, as writers call it
    :param mode: ``min`` if less is better, ``max`` if more is
    :param value: what it was
    :param epoch: when that was
    :param step: likewise
    """

    name: str
    mode: str
    value: float
    epoch: int
    step: int
