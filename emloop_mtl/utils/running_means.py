"""Weighted means of numbers that come together and stay on the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..types import State

FOLD_AFTER = 256
"""So many values are kept as they are before they are added up; a step between costs an append to a list."""

MANY = 16
"""From so many numbers on each batch's are joined at once, while they are in the processor's cache."""


class RunningMeans:
    """Weighted means of several numbers that come together, such as the losses of the tasks of a batch.

    They are added to without waiting for the device and fetched once. Values are added up in float64 on their device,
    those of ``FOLD_AFTER`` batches in one operation.

    :param count: how many numbers come together
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._pending: list[Sequence[Tensor] | Tensor] = []
        self._pending_weights: list[int | tuple[int, ...]] = []
        self._folded: Tensor | None = None
        self._weights = [0] * count

    @property
    def weights(self) -> list[int]:
        """The sum of the weights of each number."""
        pending = self._pending_weights
        if not pending:
            return self._weights
        weight = self._common_weight()
        if weight is not None:
            return [before + weight * len(pending) for before in self._weights]
        table = zip(*map(self._spread, pending), strict=True)
        return [before + sum(new) for before, new in zip(self._weights, table, strict=True)]

    def add(self, values: Sequence[Tensor | float], weights: int | tuple[int, ...]) -> None:
        """Take in a value of each number.

        :param values: 0-d tensors, which must not be changed afterwards, or numbers
        :param weights: what they count for, e.g. a number of rows: all of them, or one weight each; what has weight 0
            counts nothing, whatever the value
        """
        pending = self._pending
        if self._count >= MANY:
            pending.append(_joined(values))
        else:
            try:
                for value in values:
                    if value.requires_grad:  # type: ignore[union-attr]
                        values = _detached(values)
                        break
            except AttributeError:  # a number of Python's
                values = _detached(values)
            pending.append(values)  # type: ignore[arg-type]
        self._pending_weights.append(weights)
        if len(pending) >= FOLD_AFTER:
            self._fold()

    def extend(self, batches: Sequence[Sequence[Tensor]], weight: int) -> None:
        """Take in the values of several batches; the same, to the bit, as if each was added by itself.

        :param batches: one 0-d tensor of each number without gradients, fewer numbers than ``MANY``
        :param weight: what each value counts for
        """
        begin = 0
        while begin < len(batches):
            end = begin + FOLD_AFTER - len(self._pending)
            self._pending += batches[begin:end]
            self._pending_weights += [weight] * (len(self._pending) - len(self._pending_weights))
            if len(self._pending) >= FOLD_AFTER:
                self._fold()
            begin = end

    def totals(self) -> list[float]:
        """Fetch and return the weighted sum of each number; nothing that is kept changes."""
        sums = [0.0] * self._count
        if self._folded is not None or self._pending:
            parts = [] if self._folded is None else [self._folded]
            if self._pending:
                pending = _stacked(self._pending).double()
                parts = [*(part.to(pending.device) for part in parts), pending]
            # The last additions are made on the host, so that means restored on another device are the same.
            fetched = iter(torch.cat(parts).tolist())
            if self._folded is not None:
                sums = [next(fetched) for _ in sums]
            for weights in self._pending_weights:
                for index, weight in enumerate(self._spread(weights)):
                    value = next(fetched)
                    if weight:
                        sums[index] += value * weight
        return sums

    def state_dict(self) -> dict[str, State]:
        """Return the state, values that are not yet added up included, so that saving changes no rounding."""
        return {
            "pending": _stacked(self._pending).reshape(-1, self._count) if self._pending else None,
            "pending_weights": list(self._pending_weights),
            "folded": self._folded,
            "weights": list(self._weights),
        }

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Go on from what ``state_dict`` returned."""
        self._pending = [] if state["pending"] is None else self._rows(state["pending"])
        self._pending_weights = list(state["pending_weights"])
        self._folded = state["folded"]
        self._weights = list(state["weights"])

    def _rows(self, table: Tensor) -> list[Sequence[Tensor] | Tensor]:
        rows = table.unbind()
        return list(rows) if self._count >= MANY else [row.unbind() for row in rows]

    def _spread(self, weights: int | tuple[int, ...]) -> tuple[int, ...]:
        return (weights,) * self._count if isinstance(weights, int) else weights

    def _common_weight(self) -> int | None:
        """Return what every number of every batch that is pending counts for; None if they differ or one is 0."""
        found = {*self._pending_weights}
        weight = found.pop()
        return weight if isinstance(weight, int) and weight > 0 and not found else None

    def _fold(self) -> None:
        self._weights, weight = self.weights, self._common_weight()
        # a row per number, so that each is added up as if it had come alone
        values = _stacked(self._pending).double().reshape(-1, self._count).t().contiguous()
        if weight is not None:
            total = (values * weight).sum(1)
        else:
            table = torch.tensor([self._spread(each) for each in self._pending_weights], dtype=torch.float64)
            weights = table.t().contiguous().to(values.device, non_blocking=True)
            total = torch.where(weights > 0, values * weights, 0.0).sum(1)
        self._folded = total if self._folded is None else self._folded.to(total.device, non_blocking=True) + total
        self._pending, self._pending_weights = [], []


def _detached(values: Sequence[Tensor | float]) -> list[Tensor]:
    return [
        value.detach() if isinstance(value, Tensor) else torch.tensor(float(value), dtype=torch.float64)
        for value in values
    ]


def _joined(values: Sequence[Tensor | float]) -> Tensor:
    """Return 0-d tensors as one vector, on the device of the last."""
    try:
        return torch.stack(values).detach()  # type: ignore[arg-type]
    except (TypeError, RuntimeError):  # numbers of Python's, or tensors on several devices
        tensors = _detached(values)
        device = tensors[-1].device
        return torch.stack([tensor.to(device, non_blocking=True).reshape(()) for tensor in tensors])


def _stacked(batches: Sequence[Sequence[Tensor] | Tensor]) -> Tensor:
    """Return the values of all batches, one after the other, on the device of the last."""
    if isinstance(batches[-1], Tensor):
        return _joined(batches).reshape(-1)  # type: ignore[arg-type]
    return _joined([value for batch in batches for value in batch])
