"""Metrics that are a function of sums."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, ClassVar

from torch import Tensor

from ...errors import DataError
from ...types import State
from .metric import Metric


class SumMetric(Metric):
    """A metric that adds up a vector of fixed length per batch, on the device."""

    counts_together: ClassVar[bool] = False
    """Whether it gives the same sums, to the bit, if predictions and labels of several batches come as one.

    A class with ``sums`` of its own says so anew: what holds for the sums that it inherits may not hold for these.
    """

    _sums: Tensor | None
    _rows: int

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "sums" in vars(cls) and "counts_together" not in vars(cls):
            cls.counts_together = False

    def update(self, label: Tensor, prob: Tensor | None, pred: Tensor | None, uids: Any = None) -> None:
        sums = self.sums(label, prob, pred)
        if self._sums is not None and self._sums.shape != sums.shape:
            raise DataError(f"metric {self.name!r}: the number of classes differs between batches")
        self._sums = sums if self._sums is None else self._sums.to(sums.device, non_blocking=True) + sums
        self._rows += label.shape[0]

    @abstractmethod
    def sums(self, label: Tensor, prob: Tensor | None, pred: Tensor | None) -> Tensor:
        """Return what a batch adds, a vector of int64 or float64."""

    @abstractmethod
    def score(self, sums: list[float]) -> float:
        """Return the score of at least one row.

        :param sums: the sums over all rows
        """

    def compute(self) -> dict[str, float]:
        if self._sums is None or self._rows == 0:
            return {self.name: math.nan}
        return {self.name: float(self.score(self._sums.tolist()))}

    def reset(self) -> None:
        self._sums = None
        self._rows = 0

    def state_dict(self) -> dict[str, State]:
        return {"sums": self._sums, "rows": self._rows}

    def load_state_dict(self, state: dict[str, State]) -> None:
        self.reset()
        self._sums = state["sums"]
        self._rows = state["rows"]
