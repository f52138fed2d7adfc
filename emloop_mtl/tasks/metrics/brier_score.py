"""The mean squared difference of probabilities and what happened."""

from __future__ import annotations

from torch import Tensor

from .align_probabilities import of_label
from .probability_score import ProbabilityScore
from .probable import Probable


class BrierScore(ProbabilityScore):
    """The mean over the rows of Σ(probability - what happened)², over all classes.

    For two classes, and for single probabilities, half of it, which is (probability of 1 - label)². Where labels are 0
    or 1 each by itself, the mean over all of them.

    Brier, "Verification of forecasts expressed in terms of probability", 1950, equation 2.

    :param name: what the score is called
    :param scale_by_half: whether to halve the sum, whatever the number of classes; None halves that of two
    """

    def __init__(self, name: str = "brier_score", scale_by_half: bool | None = None) -> None:
        self.scale_by_half = scale_by_half
        super().__init__(name)

    def judge(self, rows: Probable) -> Tensor:
        prob = rows.prob.double()
        if prob.dim() == 1:
            scores, classes = 2 * (prob - rows.label.double()).square(), 2
        else:
            classes = prob.shape[1]
            if rows.label.dim() == 2:
                scores = (prob - rows.label.double()).square().sum(1)
            else:
                own = of_label(rows).double()
                scores = prob.square().sum(1) - own.square() + (1 - own).square()
        halved = classes == 2 if self.scale_by_half is None else self.scale_by_half
        return scores / 2 if halved else scores
