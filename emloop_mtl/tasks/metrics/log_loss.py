"""The mean negative logarithm of the labels' probabilities."""

from __future__ import annotations

import torch
from torch import Tensor

from .align_probabilities import of_label
from .probability_score import ProbabilityScore
from .probable import Probable


class LogLoss(ProbabilityScore):
    """The mean of -log(probability of the label), in float64.

    Probabilities are taken for at least ε and at most 1 - ε, with ε the resolution of their type, so that a certain
    mistake is not infinite. For labels that are probabilities it is their cross entropy; where labels are 0 or 1 each
    by itself, the mean over all of them.

    :param name: what the score is called
    """

    def __init__(self, name: str = "log_loss") -> None:
        super().__init__(name)

    def judge(self, rows: Probable) -> Tensor:
        kind = rows.prob.dtype if rows.prob.is_floating_point() else torch.float64
        least = torch.finfo(kind).eps
        if rows.prob.dim() == 1:
            prob, label = rows.prob.double(), rows.label.double()
            found = prob.clamp(least, 1 - least).log() * label
            return -found - (1 - prob).clamp(least, 1 - least).log() * (1 - label)
        if rows.label.dim() == 2:
            return -(rows.prob.double().clamp(least, 1 - least).log() * rows.label.double()).sum(1)
        return -of_label(rows).double().clamp(least, 1 - least).log()
