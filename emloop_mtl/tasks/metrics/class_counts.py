"""Metrics of all classes."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from ...errors import ConfigError, DataError
from ..output import CLASS_DIM
from .align import align_classes
from .sum_metric import SumMetric


class ClassCounts(SumMetric):
    """A metric that follows from how often every class is the label, is predicted, and is predicted rightly.

    The number of classes must be known before the first batch is counted, since the counts keep their size: it is the
    number of columns of ``prob``, or ``num_classes`` of the task where that is more or there is no ``prob``.

    :param name: what the score is called
    """

    needs: ClassVar[frozenset[str]] = frozenset({"prob", "pred"})
    compares_classes: ClassVar[bool] = True

    def sums(self, label: Tensor, prob: Tensor | None, pred: Tensor | None) -> Tensor:
        classes = self._find_num_classes(prob, pred)
        label, pred, kept = align_classes(self.name, label, prob, pred, self.ignored_label)
        label = label.long()
        usable = (label >= 0) & (label < classes) & (pred >= 0) & (pred < classes)
        wrong = ~usable if kept is None else ~usable & kept
        usable = usable if kept is None else usable & kept
        # Three counts per class: labels, predictions, right ones; then a place for what is left out.
        rest = 3 * classes
        places = torch.cat([label, pred + classes, torch.where(label == pred, label + 2 * classes, rest)])
        places = torch.where(usable.repeat(3), places, rest)
        counts = torch.zeros(rest + 1, dtype=torch.int64, device=label.device)
        counts.index_add_(0, places, torch.ones_like(places))
        return torch.cat([counts[:rest], wrong.sum().reshape(1)])

    def score(self, sums: list[float]) -> float:
        classes = (len(sums) - 1) // 3
        if sums[-1]:
            problem = f"{sums[-1]} labels or predictions are outside 0..{classes - 1}"
            raise DataError(f"metric {self.name!r}: {problem}; set the task's num_classes")
        return self.combine(sums[:classes], sums[classes : 2 * classes], sums[2 * classes : -1])

    @abstractmethod
    def combine(self, gold: list[float], found: list[float], right: list[float]) -> float:
        """Return the score from counts of every class, nan if they are all 0.

        :param gold: how often each class is the label
        :param found: how often it is predicted
        :param right: how often it is both
        """

    def _find_num_classes(self, prob: Tensor | None, pred: Tensor | None) -> int:
        columns = 0
        if prob is not None:
            has_classes = prob.dim() > 1 and prob.shape[CLASS_DIM] > 1 and (pred is None or pred.shape != prob.shape)
            columns = prob.shape[CLASS_DIM] if has_classes else 2
        if columns == 0 and self.num_classes is None:
            settings = "set the task's num_classes, or require_prob_for_eval"
            raise ConfigError(f"metric {self.name!r} needs the number of classes; {settings}")
        return max(columns, self.num_classes or 0)
