"""Values of one shape that lie in a file."""

from __future__ import annotations

from typing import Any

import torch

from ..make_column import as_tensor
from ..tensor_column import TensorColumn
from .mapped_array import MappedArray


class MappedColumn(TensorColumn):
    """Values of one shape that lie in a file; what is sent to another process is the place, not the values.

    :param array: where they lie
    :param dtype: what they come in; None for that of the file
    """

    def __init__(self, name: str, array: MappedArray, dtype: torch.dtype | None = None) -> None:
        super().__init__(name, as_tensor(name, array.open()), in_memory=False)
        self._array = array
        self._dtype = dtype or self._values.dtype

    def __reduce__(self) -> tuple[type[MappedColumn], tuple[Any, ...]]:
        return MappedColumn, (self._name, self._array, self._dtype)

    def row(self, index: int) -> torch.Tensor:
        return super().row(index).to(self._dtype)

    def copies(self, rows: torch.Tensor) -> torch.Tensor:
        return super().copies(rows).to(self._dtype)
