"""How far probabilities are from how often they come true."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ...errors import ConfigError
from .align import class_of
from .align_probabilities import align_probabilities
from .probability_score import check_outside
from .read_option import read_choice
from .sum_metric import SumMetric


class CalibrationError(SumMetric):
    """The difference between how probable predictions were said to be and how many of them were right, in bins.

    Rows fall into bins of equal width by the probability of the most probable class; single probabilities, and those
    of labels that are 0 or 1 each by itself, by the probability of 1, whose share of ones it is compared with. A bin
    holds its upper border and not its lower one, but the first one holds 0.

    Naeini, Cooper and Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning", 2015.

    :param name: what the score is called
    :param bins: the number of bins
    :param norm: ``l1`` for the mean difference, a bin counting by its rows (the expected calibration error); ``l2`` for
        the root of the mean square; ``max`` for the largest difference
    :raise ConfigError: for other options
    """

    needs: frozenset[str] = frozenset({"prob"})
    reads_probabilities: ClassVar[bool] = True

    def __init__(
        self, name: str = "calibration_error", bins: int = 15, norm: Literal["l1", "l2", "max"] = "l1"
    ) -> None:
        if isinstance(bins, bool) or not isinstance(bins, int) or bins < 1:
            raise ConfigError(f"metric {name!r}: bins must be a whole number > 0, not {bins!r}", ("bins",))
        self.bins = bins
        self.norm = read_choice(name, "norm", norm, ("l1", "l2", "max"))
        super().__init__(name)

    def sums(self, label: Tensor, prob: Tensor | None, pred: Tensor | None) -> Tensor:
        rows = align_probabilities(self.name, label, prob, pred, self.ignored_label, self.has_label_sets)
        if rows.prob.dim() == 1:
            sure, right = rows.prob.double(), rows.label.double()
        else:
            found = class_of(rows.prob)
            gold = class_of(rows.label) if rows.label.dim() == 2 else rows.label
            sure, right = rows.prob.gather(1, found[:, None])[:, 0].double(), (found == gold).double()
        borders = torch.arange(1, self.bins, device=sure.device, dtype=torch.float64) / self.bins
        bins = torch.bucketize(sure.contiguous(), borders)
        # A product, since a GPU adds to places in any order, so that the last digits of a sum would differ.
        places = (bins == torch.arange(self.bins, device=sure.device)[:, None]) & rows.counts
        values = torch.stack([torch.ones_like(sure), sure, right], 1)
        values = torch.where(rows.counts[:, None], values, 0.0)  # nothing times nan is nan
        return torch.cat([(places.double() @ values).flatten(), rows.outside.double().reshape(1)])

    def score(self, sums: list[float]) -> float:
        check_outside(self.name, sums[-1])
        bins = [sums[index : index + 3] for index in range(0, 3 * self.bins, 3)]
        total = sum(counted for counted, _, _ in bins)
        if not total:
            return math.nan
        if math.isnan(sum(map(sum, bins))):  # max would pass over it
            return math.nan
        gaps = [(counted / total, abs(sure - right) / counted) for counted, sure, right in bins if counted]
        if self.norm == "max":
            return max(gap for _, gap in gaps)
        if self.norm == "l2":
            return math.sqrt(sum(share * gap * gap for share, gap in gaps))
        return sum(share * gap for share, gap in gaps)
