"""Values of one shape."""

from __future__ import annotations

from typing import Any

import torch

from .column import Column


class TensorColumn(Column):
    """Values of one shape, in one tensor."""

    def __init__(self, name: str, values: torch.Tensor) -> None:
        super().__init__(name)
        self._values = values.detach()
        self._on_host = values.device.type == "cpu"

    def __len__(self) -> int:
        return len(self._values)

    def row(self, index: int) -> torch.Tensor:
        return self._values[index].clone()

    def add_to(self, batch: dict[str, Any], rows: torch.Tensor) -> None:
        if not self._on_host:
            rows = rows.to(self._values.device, non_blocking=True)
        batch[self._name] = self._values.index_select(0, rows)
