"""F1 of one class against the rest."""

from __future__ import annotations

from typing import Literal

from .fbeta import FBeta


class F1(FBeta):
    """The harmonic mean of precision and recall of one class; 0 where the class never occurs.

    :param name: what the score is called
    :param positive: the class
    :param zero_division: the score where the class never occurs: 0, 1 or nan
    """

    def __init__(self, name: str = "f1", positive: int = 1, zero_division: float | Literal["nan"] = 0.0) -> None:
        super().__init__(1, name, positive, zero_division)
