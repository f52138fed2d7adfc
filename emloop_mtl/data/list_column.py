"""Values that make no tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .column import Column


class ListColumn(Column):
    """Objects of any kind, such as strings; a batch of them is a list."""

    def __init__(self, name: str, values: Sequence[Any]) -> None:
        super().__init__(name)
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def row(self, index: int) -> Any:
        return self._values[index]

    def add_to(self, batch: dict[str, Any], rows: torch.Tensor) -> None:
        values = self._values
        batch[self._name] = [values[row] for row in rows.tolist()]
