"""The linear correlation of labels and predicted values."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ...types import State
from .align_values import align_numbers
from .correlation import Correlation


class PearsonCorrelation(Correlation):
    """Pearson's correlation of labels and predicted values, one of each per row, computed in float64.

    It is nan for fewer than two rows, and where labels or predictions are all the same. What is kept are seven numbers:
    the first row, from which all are measured so that a large offset costs no digits, and the means, squares and
    product of the differences. Batches are merged as in Chan, Golub and LeVeque, "Updating formulae and a pairwise
    algorithm for computing sample variances", 1979.

    :param name: what the score is called
    :param return_pvalue: report as ``pearson_pvalue``, too, how probable a correlation at least that strong is where
        there is none (two-sided, for normally distributed rows)
    """

    _moments: Tensor | None
    _rows: int

    def __init__(self, name: str = "pearson_correlation", return_pvalue: bool = False) -> None:
        super().__init__(name, return_pvalue)

    def update(self, label: Tensor, prob: Tensor | None, pred: Tensor | None, uids: Any = None) -> None:
        rows = torch.stack([value.double() for value in align_numbers(self.name, label, prob)])
        number = rows.shape[1]
        if number == 0:
            return
        kept = None if self._moments is None else self._moments.to(rows.device, non_blocking=True)
        origin = rows[:, 0] if kept is None else kept[:2]
        rows = rows - origin[:, None]
        mean = rows.mean(1)
        rows = rows - mean[:, None]
        spread = torch.cat([rows.square().sum(1), rows.prod(0).sum().reshape(1)])
        if kept is not None:
            step = mean - kept[2:4]
            steps = torch.cat([step.square(), step.prod().reshape(1)])
            total = self._rows + number
            spread = kept[4:] + spread + steps * (self._rows * number / total)
            mean = kept[2:4] + step * (number / total)
        self._moments = torch.cat([origin, mean, spread])
        self._rows += number

    def compute(self) -> dict[str, float]:
        if self._moments is None or self._rows < 2:
            return dict.fromkeys(self.names, math.nan)
        found = _correlation(*self._moments[4:].tolist())
        scores = (found, _pvalue(found, self._rows)) if self.return_pvalue else (found,)
        return dict(zip(self.names, scores, strict=True))

    def reset(self) -> None:
        self._moments = None
        self._rows = 0

    def state_dict(self) -> dict[str, State]:
        return {"moments": self._moments, "rows": self._rows}

    def load_state_dict(self, state: dict[str, State]) -> None:
        self._moments = state["moments"]
        self._rows = state["rows"]


def _correlation(label_square: float, value_square: float, product: float) -> float:
    if label_square == 0 or value_square == 0:
        return math.nan
    found = product / math.sqrt(label_square) / math.sqrt(value_square)
    # Rounding may lead beyond the ends; nan stays nan, which min and max would not see to.
    return math.copysign(1.0, found) if abs(found) > 1 else found


def _pvalue(correlation: float, rows: int) -> float:
    """Return the two-sided p-value from the exact distribution, a beta distribution stretched over -1..1."""
    from scipy.special import betainc

    if rows == 2:  # any two points lie on a line
        return math.nan if math.isnan(correlation) else 1.0
    return 2 * float(betainc(rows / 2 - 1, rows / 2 - 1, (1 - abs(correlation)) / 2))
