"""Some rows of all outputs of a flow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from .select_rows import select_rows


class SelectedRows(Mapping[str, Any]):
    """The outputs of a flow with only some of the batch's rows; what nobody looks at is not selected."""

    def __init__(self, outputs: Mapping[str, Any], rows: Tensor, size: int) -> None:
        self._outputs = outputs
        self._rows = rows
        self._size = size
        self._selected: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._selected:
            self._selected[name] = select_rows(self._outputs[name], self._rows, self._size)
        return self._selected[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._outputs)

    def __len__(self) -> int:
        return len(self._outputs)
