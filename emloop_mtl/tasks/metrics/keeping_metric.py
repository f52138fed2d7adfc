"""Metrics that need all rows at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...errors import DataError
from ...types import State
from .metric import Metric


class KeepingMetric(Metric):
    """A metric that keeps labels, probabilities and predictions on the device until they are fetched."""

    _kept: dict[str, list[Tensor]]

    def update(self, label: Tensor, prob: Tensor | None, pred: Tensor | None, uids: Any = None) -> None:
        for kind, value in (("label", label), ("prob", prob), ("pred", pred)):
            if value is not None and (kind == "label" or kind in self.needs):
                self._keep(kind, value)

    def fetch(self, kind: str) -> Tensor | None:
        """Return all rows of ``label``, ``prob`` or ``pred`` on the host; None if there were none.

        :raise DataError: if only some batches had them
        """
        parts = self._kept.get(kind)
        if parts is None:
            return None
        if sum(map(len, parts)) != sum(map(len, self._kept["label"])):
            raise DataError(f"metric {self.name!r}: only some batches had {kind!r}")
        return _joined(parts).cpu()

    @property
    def num_rows(self) -> int:
        """The number of rows that are kept."""
        return sum(map(len, self._kept.get("label", ())))

    def reset(self) -> None:
        self._kept = {}

    def state_dict(self) -> dict[str, State]:
        return {kind: _joined(parts) for kind, parts in self._kept.items()}

    def load_state_dict(self, state: dict[str, State]) -> None:
        self._kept = {kind: [rows] for kind, rows in state.items()}

    def _keep(self, kind: str, value: Tensor) -> None:
        parts = self._kept.setdefault(kind, [])
        if parts and parts[0].shape[1:] != value.shape[1:]:
            raise DataError(
                f"metric {self.name!r}: rows of {kind!r} have different shapes in different batches, "
                f"{tuple(parts[0].shape[1:])} and {tuple(value.shape[1:])}"
            )
        # A copy: the batch's memory may be used again, and a part of it would keep all of it.
        parts.append(value.detach().clone())


def _joined(parts: list[Tensor]) -> Tensor:
    device = parts[-1].device
    return torch.cat([part.to(device) for part in parts])
