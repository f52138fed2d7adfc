"""Values of one shape that lie in a file."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ...errors import DataError
from ..make_column import as_tensor
from ..tensor_column import TensorColumn
from .mapped_array import MappedArray


class MappedColumn(TensorColumn):
    """Values of one shape that lie in a file; what is sent to another process is the place, not the values.

    :param array: where they lie
    :param dtype: what they come in; None for that of the file
    :raise DataError: on reading a value that is none of that dtype
    """

    def __init__(self, name: str, array: MappedArray, dtype: torch.dtype | None = None) -> None:
        values = array.open()
        self._is_complex = values.dtype.kind == "c"
        super().__init__(name, as_tensor(name, _parts(values) if self._is_complex else values), in_memory=False)
        self._array = array
        self._dtype = dtype or self._values.dtype

    def __reduce__(self) -> tuple[type[MappedColumn], tuple[Any, ...]]:
        return MappedColumn, (self._name, self._array, self._dtype)

    def row(self, index: int) -> torch.Tensor:
        return self._joined(super().row(index))

    def copies(self, rows: torch.Tensor) -> torch.Tensor:
        return self._joined(super().copies(rows))

    def _joined(self, values: torch.Tensor) -> torch.Tensor:
        if self._is_complex:
            return torch.view_as_complex(values.contiguous())
        made = values.to(self._dtype)
        if (
            values.dtype != self._dtype
            and not self._dtype.is_floating_point
            and not made.to(values.dtype).equal(values)
        ):
            odd = values[made.to(values.dtype) != values][0].item()
            dtype = str(self._dtype).removeprefix("torch.")
            raise DataError(f"source {self._name!r}: {odd} is not of dtype {dtype}, which dtypes says of its column")
        return made


def _parts(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return real and imaginary parts [n, ..., 2] of an array where it lies.

    Torch reads whole complex numbers only from addresses that are multiples of their size, else the process crashes; in
    an archive they stand anywhere.
    """
    size = values.dtype.itemsize // 2
    return np.lib.stride_tricks.as_strided(values.real, (*values.shape, 2), (*values.strides, size), writeable=False)
