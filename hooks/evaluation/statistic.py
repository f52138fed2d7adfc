"""One number over all values of an epoch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emloop_mtl.types import State
from emloop_mtl.utils.running_mean import RunningMean
from emloop_mtl.utils.running_means import RunningMeans

_NUMPY = (
    *("all", "amax", "amin", "any", "argmax", "argmin", "average", "count_nonzero", "max", "mean", "median", "min"),
    *("nanmax", "nanmean", "nanmedian", "nanmin", "nanprod", "nanstd", "nansum", "nanvar", "prod", "ptp", "size"),
    *("std", "sum", "var"),
)

AGGREGATIONS: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {
        **{name: getattr(np, name) for name in _NUMPY},
        "nancount": lambda values: np.isnan(values).sum(),
        "nanfraction": lambda values: np.isnan(values).mean(),
    }
)
"""The aggregations by name: numpy's functions that make one number of an array, and two that count nan."""

_FOLDS: Mapping[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "sum": (lambda values: values.sum(dtype=torch.float64 if values.is_floating_point() else None), "sum"),
    "min": (torch.min, "min"),
    "max": (torch.max, "max"),
    "nancount": (lambda values: values.isnan().sum(), "sum"),
}
"""Where one value per batch is enough: how to get it, and the aggregation of these."""

_PENDING = 128
"""Tensors that are kept before they are joined into one: many small ones cost memory and a long join at the end."""


class Statistic:
    """One aggregation over an epoch, which leaves all values on their device until ``result``.

    Where the aggregation allows, a batch leaves a single number behind, so that memory stays small; otherwise,
    for a median say, all values are kept.

    :param aggregation: a name in ``AGGREGATIONS``
    """

    def __init__(self, aggregation: str) -> None:
        self._aggregation = aggregation
        self._mean = RunningMean() if aggregation in ("mean", "nanfraction") else None
        self._fold, self._last = _FOLDS.get(aggregation, (torch.flatten, aggregation))
        self._pending: list[Tensor] = []
        self._joined: list[Tensor] = []

    def add(self, values: Tensor, weight: int) -> None:
        """Take the values of a batch.

        :param values: one value of the batch, 0-d, or those of its samples, of any shape but empty
        :param weight: what the batch's one value weighs in the mean
        """
        if self._mean is None:
            self._keep(self._fold(values).reshape(-1))
        elif self._aggregation == "nanfraction":
            self._mean.add(values.isnan().mean(dtype=torch.float64), values.numel())
        elif values.dim() == 0:
            self._mean.add(values, weight)
        else:
            self._mean.add(values.mean(dtype=torch.float64), values.numel())

    @property
    def means(self) -> RunningMeans | None:
        """What single numbers can be added to at once, without ``add``; None where they cannot."""
        return None if self._mean is None or self._aggregation != "mean" else self._mean.means

    def result(self) -> float:
        """Return the number, nan where there were no values."""
        if self._mean is not None:
            return self._mean.result()
        values = self._kept()
        if not len(values):
            return float("nan")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # numpy warns where it returns nan
            return float(AGGREGATIONS[self._last]((values.double() if values.is_floating_point() else values).numpy()))

    def state_dict(self) -> dict[str, State]:
        """Return all that has been taken so far."""
        return {"values": self._kept()} if self._mean is None else self._mean.state_dict()

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Go on from what ``state_dict`` returned."""
        if self._mean is None:
            self._pending, self._joined = [], [state["values"]]
        else:
            self._mean.load_state_dict(state)

    def _keep(self, values: Tensor) -> None:
        self._pending.append(values)
        if len(self._pending) == _PENDING:
            self._joined.append(torch.cat(self._pending))
            self._pending.clear()

    def _kept(self) -> Tensor:
        kept = [*self._joined, *([torch.cat(self._pending)] if self._pending else ())]
        return torch.cat([values.cpu() for values in kept]) if kept else torch.empty(0)
