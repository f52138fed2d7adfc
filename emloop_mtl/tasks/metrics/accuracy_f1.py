"""Accuracy and F1 in one number."""

from __future__ import annotations

from .f1 import F1


class AccuracyF1(F1):
    """The mean of the accuracy over all classes and the F1 of one class.

    :param name: what the score is called
    :param positive: the class of the F1
    """

    def __init__(self, name: str = "accuracy_f1", positive: int = 1) -> None:
        super().__init__(name, positive)

    def ratio(self, both: float, gold: float, found: float, accuracy: float) -> float:
        return (accuracy + super().ratio(both, gold, found, accuracy)) / 2
