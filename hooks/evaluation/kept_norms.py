"""Norms of an epoch, which wait on their device."""

from __future__ import annotations

import torch
from torch import Tensor

from emloop_mtl.types import State

FOLD_AFTER = 256
"""So many vectors are kept as they are before they are made one."""


class KeptNorms:
    """Mean and maximum of each number of vectors that come one by one, fetched once.

    :param leaves_out: whether vectors count nothing that hold a number that is not finite
    """

    def __init__(self, leaves_out: bool) -> None:
        self._leaves_out = leaves_out
        self._pending: dict[tuple[str, ...], list[Tensor]] = {}
        self._folded: dict[tuple[str, ...], Tensor] = {}
        """Of each number how many there were, their sum and their maximum, [3, numbers], in float64."""

    def add(self, names: tuple[str, ...], values: Tensor) -> None:
        """Take in a vector.

        :param names: what its numbers are called
        :param values: [numbers]; it must not be changed afterwards
        """
        pending = self._pending.setdefault(names, [])
        pending.append(values)
        if len(pending) >= FOLD_AFTER:
            self._folded[names] = self._fold(names, values.device)
            pending.clear()

    def result(self) -> dict[str, dict[str, float]]:
        """Fetch and return ``mean`` and ``max`` of each number that there was; nothing that is kept changes."""
        found: dict[str, tuple[float, float, Tensor]] = {}
        host = torch.device("cpu")
        for names in self._pending:
            for name, (count, total, largest) in zip(names, self._fold(names, host).t(), strict=True):
                before = found.get(name, (0.0, 0.0, largest))
                found[name] = before[0] + float(count), before[1] + float(total), torch.maximum(before[2], largest)
        return {
            name: {"mean": total / count, "max": float(largest)}
            for name, (count, total, largest) in found.items()
            if count
        }

    def state_dict(self) -> list[dict[str, State]]:
        """Return the state, what is not yet folded as it came, so that saving changes no rounding."""
        return [
            {
                "names": list(names),
                "pending": torch.stack(self._on_one_device(pending)) if pending else None,
                "folded": self._folded.get(names),
            }
            for names, pending in self._pending.items()
        ]

    def load_state_dict(self, state: list[dict[str, State]]) -> None:
        """Go on from what ``state_dict`` returned."""
        self._pending, self._folded = {}, {}
        for entry in state:
            names = tuple(entry["names"])
            self._pending[names] = [] if entry["pending"] is None else list(entry["pending"].unbind())
            if entry["folded"] is not None:
                self._folded[names] = entry["folded"]

    def _fold(self, names: tuple[str, ...], device: torch.device) -> Tensor:
        """Return count, sum and maximum of all vectors of these names so far."""
        before, pending = self._folded.get(names), self._pending[names]
        if not pending:
            assert before is not None
            return before.to(device)
        rows = torch.stack(self._on_one_device(pending)).to(device, torch.float64, non_blocking=False)
        kept = torch.ones_like(rows, dtype=torch.bool)
        if self._leaves_out:
            kept = rows.isfinite().all(1, keepdim=True).expand_as(rows)
        count, total = kept.sum(0).double(), rows.where(kept, 0).sum(0)
        largest = rows.where(kept, -torch.inf).amax(0)
        if before is not None:
            before = before.to(device)
            count, total, largest = before[0] + count, before[1] + total, torch.maximum(before[2], largest)
        return torch.stack([count, total, largest])

    @staticmethod
    def _on_one_device(values: list[Tensor]) -> list[Tensor]:
        """Return vectors on the device of the last: those of a checkpoint are on the host."""
        device, dtype = values[-1].device, values[-1].dtype
        return [value.to(device, dtype, non_blocking=True) for value in values]
