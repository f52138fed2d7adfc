"""The share of the labels' variance that is explained."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ...errors import DataError
from ...types import State
from .align_values import align_values
from .class_average import nan_mean
from .metric import Metric
from .read_option import read_choice


class R2Score(Metric):
    """1 - Σ(label - value)² / Σ(label - mean)², computed in float64; of several values per row the mean of each one's.

    It is nan for fewer than two rows. Where all labels are the same it is 1 if all values are right, else 0. What is
    kept per value are four numbers: the first label, from which all are measured so that a large offset costs no
    digits, mean and squares of the differences, and the squares of the errors. Batches are merged as in
    ``PearsonCorrelation``.

    :param name: what the score is called
    :param multioutput: ``uniform_average``, or ``variance_weighted`` for the mean in which each of several values
        counts by the variance of its labels
    :raise ConfigError: for another ``multioutput``
    """

    needs: frozenset[str] = frozenset({"prob"})
    compares_values: ClassVar[bool] = True

    _moments: Tensor | None
    _rows: int

    def __init__(
        self,
        name: str = "r2",
        multioutput: Literal["uniform_average", "variance_weighted"] = "uniform_average",
    ) -> None:
        read_choice(name, "multioutput", multioutput, ("uniform_average", "variance_weighted"))
        self.multioutput = multioutput
        super().__init__(name)

    def update(self, label: Tensor, prob: Tensor | None, pred: Tensor | None, uids: Any = None) -> None:
        label, prob = align_values(self.name, label, prob)
        number = label.shape[0]
        if number == 0:
            return
        gold = label.double().reshape(number, -1)
        missed = (gold - prob.double().reshape(number, -1)).square().sum(0)
        kept = None if self._moments is None else self._moments.to(gold.device, non_blocking=True)
        if kept is not None and kept.shape[1] != gold.shape[1]:
            raise DataError(f"metric {self.name!r}: the number of values per row differs between batches")
        origin = gold[0] if kept is None else kept[0]
        gold = gold - origin
        mean = gold.mean(0)
        spread = (gold - mean).square().sum(0)
        if kept is not None:
            step, total = mean - kept[1], self._rows + number
            spread = kept[2] + spread + step.square() * (self._rows * number / total)
            mean = kept[1] + step * (number / total)
            missed = kept[3] + missed
        self._moments = torch.stack([origin, mean, spread, missed])
        self._rows += number

    def compute(self) -> dict[str, float]:
        if self._moments is None or self._rows < 2:
            return {self.name: math.nan}
        spread, missed = self._moments[2:].tolist()
        scores = [
            1 - wrong / all_ if all_ else (1.0 if wrong == 0 else math.nan if math.isnan(wrong) else 0.0)
            for all_, wrong in zip(spread, missed, strict=True)
        ]
        if any(map(math.isnan, scores)):
            return {self.name: math.nan}
        return {self.name: nan_mean(scores, spread if self.multioutput == "variance_weighted" else None)}

    def reset(self) -> None:
        self._moments = None
        self._rows = 0

    def state_dict(self) -> dict[str, State]:
        return {"moments": self._moments, "rows": self._rows}

    def load_state_dict(self, state: dict[str, State]) -> None:
        self._moments = state["moments"]
        self._rows = state["rows"]
