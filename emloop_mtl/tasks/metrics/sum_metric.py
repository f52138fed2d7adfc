"""Metrics that are a function of sums."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...errors import DataError
from ...types import State
from .metric import Metric

MOST_BATCHES = 128
"""So many batches may wait to be counted together."""

MOST_ENTRIES = 1 << 16
"""So many labels may wait, so that memory stays small whatever a label is."""

MOST_BYTES = 1 << 25
"""So much memory may be kept by those that wait: a label can be a part of something large, which stays with it."""


class SumMetric(Metric):
    """A metric that adds up a vector of fixed length per batch, on the device."""

    counts_together: ClassVar[bool] = False
    """Whether it gives the same sums, to the bit, if predictions and labels of several batches come as one.

    A class with ``sums`` of its own says so anew: what holds for the sums that it inherits may not hold for these.
    """

    _sums: Tensor | None
    _rows: int
    _waiting: list[tuple[Tensor, Tensor]]
    """Labels and predictions of batches that are still to be counted."""
    _known: tuple[torch.Size, torch.Size] | None
    """The shapes of those that wait, which are shapes of a batch that has passed all checks."""
    _first: Tensor | None
    """The labels of that batch, kept so that nothing but them comes to lie in their memory."""
    _memory: int
    """Where that is. A stream that uses the memory of its batches again comes back to it."""
    _most: int
    """How many may wait."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "sums" in vars(cls) and "counts_together" not in vars(cls):
            cls.counts_together = False

    def update(self, label: Tensor, prob: Tensor | None, pred: Tensor | None, uids: Any = None) -> None:
        shape = label.shape
        self._rows += shape[0]
        if pred is None or not self.counts_together:
            self._count(label, prob, pred)
        elif (shape, pred.shape) == self._known and label.data_ptr() != self._memory:
            waiting = self._waiting
            waiting.append((label, pred))
            if len(waiting) >= self._most:
                self._count_waiting()
        else:
            self._count_waiting()
            self._count(label, prob, pred)
            self._begin_waiting(label, pred)

    @abstractmethod
    def sums(self, label: Tensor, prob: Tensor | None, pred: Tensor | None) -> Tensor:
        """Return what a batch adds, a vector of int64 or float64."""

    @abstractmethod
    def score(self, sums: list[float]) -> float:
        """Return the score of at least one row.

        :param sums: the sums over all rows
        """

    def compute(self) -> dict[str, float]:
        self._count_waiting()
        if self._sums is None or self._rows == 0:
            return {self.name: math.nan}
        return {self.name: float(self.score(self._sums.tolist()))}

    def reset(self) -> None:
        self._sums = None
        self._rows = 0
        self._waiting, self._known, self._first, self._memory, self._most = [], None, None, 0, 1

    def state_dict(self) -> dict[str, State]:
        self._count_waiting()
        return {"sums": self._sums, "rows": self._rows}

    def load_state_dict(self, state: dict[str, State]) -> None:
        self.reset()
        self._sums = state["sums"]
        self._rows = state["rows"]

    def _begin_waiting(self, label: Tensor, pred: Tensor) -> None:
        """Let batches like one that has been counted wait, as many of them as memory allows."""
        self._known = label.shape, pred.shape
        self._first, self._memory = label, label.data_ptr()
        kept = label.untyped_storage().nbytes() + pred.untyped_storage().nbytes()
        most = min(MOST_ENTRIES // max(1, label.numel()), MOST_BYTES // max(1, kept))
        self._most = min(MOST_BATCHES, max(1, most))

    def _count_waiting(self) -> None:
        if self._waiting:
            labels, preds = (torch.cat(values) for values in zip(*self._waiting, strict=True))
            self._waiting = []
            self._count(labels, None, preds)

    def _count(self, label: Tensor, prob: Tensor | None, pred: Tensor | None) -> None:
        sums = self.sums(label, prob, pred)
        if self._sums is not None and self._sums.shape != sums.shape:
            raise DataError(f"metric {self.name!r}: the number of classes differs between batches")
        self._sums = sums if self._sums is None else self._sums.to(sums.device, non_blocking=True) + sums
