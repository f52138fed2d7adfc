"""Metrics of all classes."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from ...errors import ConfigError, DataError
from ..output import CLASS_DIM
from .align import align_classes, are_label_sets, fit_classes
from .counts import Counts
from .sum_metric import SumMetric


class ClassCounts(SumMetric):
    """A metric that follows from how often every class is the label, is predicted, and is predicted rightly.

    The number of classes must be known before the first batch is counted, since the counts keep their size: it is the
    number of columns of ``prob``, or ``num_classes`` of the task where that is more or there is no ``prob``.

    :param name: what the score is called
    """

    needs: frozenset[str] = frozenset({"prob", "pred"})
    compares_classes: ClassVar[bool] = True
    counts_together: ClassVar[bool] = True

    by_column: ClassVar[bool] = False
    """Whether labels [n, k] that are 0 or 1 each by itself are counted in k columns; else they are two classes."""

    def sums(self, label: Tensor, prob: Tensor | None, pred: Tensor | None) -> Tensor:
        if self.by_column and self._are_columns(label, prob, pred):
            return self._column_sums(label, prob, pred)
        classes = self._find_num_classes(prob, pred)
        label, pred, kept = align_classes(self.name, label, prob, pred, self.ignored_label, self.has_label_sets)
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

    def counts(self, sums: list[float]) -> Counts:
        """Return what the sums are.

        :raise DataError: if there were labels or predictions that are no class
        """
        of_sets = _of_columns(len(sums))
        classes = (len(sums) - 1) // 3
        outside = sums[3 * classes]
        if outside:
            problem = f"{int(outside)} labels or predictions are outside 0..{1 if of_sets else classes - 1}"
            raise DataError(f"metric {self.name!r}: {problem}" + ("" if of_sets else "; set the task's num_classes"))
        gold, found, right = sums[:classes], sums[classes : 2 * classes], sums[2 * classes : 3 * classes]
        return Counts(gold, found, right, of_sets, sums[-1] if of_sets else sum(gold))

    def score(self, sums: list[float]) -> float:
        return self.combine(self.counts(sums))

    @abstractmethod
    def combine(self, counts: Counts) -> float:
        """Return the score, nan if all counts are 0."""

    def _are_columns(self, label: Tensor, prob: Tensor | None, pred: Tensor | None) -> bool:
        if self._sums is not None and prob is None and self.has_label_sets is None:
            return _of_columns(len(self._sums))  # batches like one that was counted, whose shapes told
        return are_label_sets(label, prob, pred, self.has_label_sets)

    def _column_sums(self, label: Tensor, prob: Tensor | None, pred: Tensor | None) -> Tensor:
        label, pred = fit_classes(self.name, label, prob, pred, sets=True)
        kept = torch.ones_like(label, dtype=torch.bool) if self.ignored_label is None else label != self.ignored_label
        gold, found = (label == 1) & kept, (pred == 1) & kept
        outside = ~((gold | (label == 0)) & (found | (pred == 0))) & kept
        columns = torch.cat([gold.sum(0), found.sum(0), (gold & found).sum(0)])
        return torch.cat([columns, outside.sum().reshape(1), kept.sum().reshape(1)])

    def _find_num_classes(self, prob: Tensor | None, pred: Tensor | None) -> int:
        columns = 0
        if prob is not None:
            has_classes = prob.dim() > 1 and prob.shape[CLASS_DIM] > 1 and (pred is None or pred.shape != prob.shape)
            columns = prob.shape[CLASS_DIM] if has_classes and not self.has_label_sets else 2
        elif self.has_label_sets:
            columns = 2
        elif self._sums is not None and not _of_columns(len(self._sums)):
            columns = (len(self._sums) - 1) // 3
        if columns == 0 and self.num_classes is None:
            settings = "set the task's num_classes, or require_prob_for_eval"
            raise ConfigError(f"metric {self.name!r} needs the number of classes; {settings}")
        return max(columns, 0 if self.has_label_sets else self.num_classes or 0)


def _of_columns(size: int) -> bool:
    """Whether sums of a size are those of columns, which have one number more, the number of entries."""
    return size % 3 == 2
