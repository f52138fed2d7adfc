"""The share of labels among the most probable classes."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from ...errors import ConfigError
from ..output import CLASS_DIM
from .align import check_shapes, class_of, count, without_column
from .sum_metric import SumMetric


class TopAccuracy(SumMetric):
    """The share of labels that are among the ``topk`` most probable classes.

    Of equally probable classes the one with the lower number comes first, as where one class is predicted. A class
    whose probability is nan is never among them.

    :param topk: how many classes count, at least 1; more than there are means all of them
    :param name: what the score is called, by default ``accuracy@<topk>``
    :param normalize: false for the number of such labels instead of their share
    :raise ConfigError: for another ``topk``
    """

    needs: frozenset[str] = frozenset({"prob"})
    compares_classes: ClassVar[bool] = True

    def __init__(self, topk: int, name: str | None = None, normalize: bool = True) -> None:
        if isinstance(topk, bool) or not isinstance(topk, int) or topk < 1:
            raise ConfigError(f"accuracy@K: topk must be a whole number > 0, not {topk!r}", ("topk",))
        self.topk = topk
        self.normalize = normalize
        super().__init__(f"accuracy@{topk}" if name is None else name)

    def sums(self, label: Tensor, prob: Tensor | None, pred: Tensor | None) -> Tensor:
        if prob is None or prob.dim() < 2 or prob.shape[CLASS_DIM] < 2:
            found = "none" if prob is None else f"of shape {tuple(prob.shape)}"
            raise ConfigError(f"metric {self.name!r} needs probabilities [n, classes], and there are {found}")
        label = label.to(prob.device, non_blocking=True)
        if label.shape == prob.shape:
            label = class_of(label)
        elif label.dim() == prob.dim():
            label = without_column(label)
        check_shapes(self.name, label, prob.select(CLASS_DIM, 0))
        label = label.long().unsqueeze(CLASS_DIM)
        classes = prob.shape[CLASS_DIM]
        own = prob.gather(CLASS_DIM, label.clamp(0, classes - 1))
        numbers = torch.arange(classes, device=prob.device).view(-1, *[1] * (prob.dim() - 2))
        before = ((prob > own) | ((prob == own) & (numbers < label))).sum(CLASS_DIM, keepdim=True)
        right = (before < self.topk) & (label >= 0) & (label < classes) & ~own.isnan()
        kept = None
        if self.ignored_label is not None and prob.dim() > 2:
            kept = (label != self.ignored_label).reshape(-1)
        return count(right.reshape(-1), kept=kept)

    def score(self, sums: list[float]) -> float:
        counted, right = sums
        if not counted:
            return math.nan
        return right / counted if self.normalize else right
