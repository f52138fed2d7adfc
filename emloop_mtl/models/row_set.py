"""Some rows of a mixed batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..tasks.nested import map_tensors
from .device_copy import to_device


class RowSet:
    """Some rows of a batch, in rising order; where they lie side by side, to pick them copies nothing.

    :param numbers: of the rows, int64, on the host
    """

    __slots__ = ("_on_device", "first", "numbers", "size")

    def __init__(self, numbers: NDArray[np.int64]) -> None:
        self.numbers = numbers
        self.size = len(numbers)
        first = int(numbers[0]) if self.size else 0
        self.first = first if not self.size or int(numbers[-1]) - first + 1 == self.size else None
        """The first of them where they lie side by side, else None."""
        self._on_device: dict[torch.device, Tensor] = {}

    def among(self, others: RowSet) -> RowSet:
        """Return the places that these rows have among others, which hold all of them."""
        if others.first is not None:
            return self if others.first == 0 else RowSet(self.numbers - others.first)
        return RowSet(np.searchsorted(others.numbers, self.numbers))

    def pick(self, value: Any, size: int) -> Any:
        """Return these rows of a value.

        :param value: a tensor, or tensors nested in lists, tuples and mappings; what has no rows stays as it is
        :param size: how many rows it has
        """

        def select(tensor: Tensor) -> Tensor:
            if tensor.dim() == 0 or tensor.shape[0] != size:
                return tensor
            if self.first is not None:
                return tensor.narrow(0, self.first, self.size)
            return tensor.index_select(0, self._indices(tensor.device))

        return map_tensors(value, select)

    def pick_source(self, value: Any, size: int) -> Any:
        """Return these rows of a source, which may also be an array, or a list of whatever the rows hold."""
        if isinstance(value, np.ndarray):
            return value[self.numbers] if value.ndim and len(value) == size else value
        if isinstance(value, list | tuple):
            return [value[row] for row in self.numbers.tolist()] if len(value) == size else value
        return self.pick(value, size)

    def spread(self, value: Any, size: int) -> Any:
        """Return a value of these rows as one of all rows of the batch, zero in others.

        :param size: how many rows the batch has
        """

        def place(tensor: Tensor) -> Tensor:
            if tensor.dim() == 0 or tensor.shape[0] != self.size:
                return tensor
            everywhere = tensor.new_zeros((size, *tensor.shape[1:]))
            return everywhere.index_copy(0, self._indices(tensor.device), tensor)

        return map_tensors(value, place)

    def meets(self, first: int, stop: int) -> bool:
        """Tell whether one of the rows lies between two."""
        if self.first is not None:
            return self.first < stop and first < self.first + self.size
        return bool(((self.numbers >= first) & (self.numbers < stop)).any())

    def _indices(self, device: torch.device) -> Tensor:
        if device not in self._on_device:
            self._on_device[device] = to_device(torch.from_numpy(self.numbers), device)
        return self._on_device[device]
