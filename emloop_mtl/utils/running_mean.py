"""A weighted mean of numbers that stay on the device."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..types import State

FOLD_AFTER = 128
"""So many values are kept as they are before they are added up; a step between costs an append to a list."""


class RunningMean:
    """A weighted mean that is added to without waiting for the device and fetched once.

    Values are added up in float64: tensors on their device, ``FOLD_AFTER`` at a time, numbers on the host.
    """

    def __init__(self) -> None:
        self._pending: list[Tensor] = []
        self._pending_weights: list[int] = []
        self._folded: Tensor | None = None
        self._host_sum = 0.0
        self._weight = 0

    @property
    def weight(self) -> int:
        """The sum of all weights."""
        return self._weight

    def add(self, value: Tensor | float, weight: int = 1) -> None:
        """Take in a value; with weight 0 nothing, whatever the value.

        :param value: a number or a 0-d tensor, which must not be changed afterwards
        :param weight: what it counts for, e.g. a number of rows
        """
        if weight == 0:
            return
        self._weight += weight
        if not isinstance(value, Tensor):
            self._host_sum += float(value) * weight
            return
        self._pending.append(value.detach())
        self._pending_weights.append(weight)
        if len(self._pending) >= FOLD_AFTER:
            self._fold()

    def result(self) -> float:
        """Fetch and return the mean, nan if the weights are 0 in sum; nothing that is kept changes."""
        if self._weight == 0:
            return math.nan
        total = self._host_sum
        if self._pending or self._folded is not None:
            parts = [] if self._folded is None else [self._folded.reshape(1)]
            if self._pending:
                parts = [part.to(self._pending[-1].device) for part in parts] + [_stack(self._pending).double()]
            # The last additions are made on the host, so that a mean restored on another device is the same.
            weights = [1] * (self._folded is not None) + self._pending_weights
            for value, weight in zip(torch.cat(parts).tolist(), weights, strict=True):
                total += value * weight
        return total / self._weight

    def reset(self) -> None:
        """Forget all values."""
        self.__init__()  # type: ignore[misc]

    def state_dict(self) -> dict[str, State]:
        """Return the state, values that are not yet added up included, so that saving changes no rounding."""
        return {
            "pending": _stack(self._pending) if self._pending else None,
            "pending_weights": list(self._pending_weights),
            "folded": self._folded,
            "host_sum": self._host_sum,
            "weight": self._weight,
        }

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Go on from what ``state_dict`` returned."""
        self._pending = [] if state["pending"] is None else list(state["pending"].unbind())
        self._pending_weights = list(state["pending_weights"])
        self._folded = state["folded"]
        self._host_sum = state["host_sum"]
        self._weight = state["weight"]

    def _fold(self) -> None:
        values = _stack(self._pending).double()
        weights = torch.tensor(self._pending_weights, dtype=torch.float64)
        total = (values * weights.to(values.device, non_blocking=True)).sum()
        self._folded = total if self._folded is None else self._folded.to(total.device, non_blocking=True) + total
        self._pending = []
        self._pending_weights = []


def _stack(values: list[Tensor]) -> Tensor:
    device = values[-1].device
    return torch.cat([value.to(device, non_blocking=True).reshape(1) for value in values])
