"""Where an array lies in a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class MappedArray:
    """An array in a file; what is known of it without reading its values.

    :param path: the file
    :param dtype: as numpy writes it, such as ``<f4``
    :param shape: [n, ...]
    :param offset: byte at which the values begin
    :param fortran: whether the first index varies fastest
    """

    path: str
    dtype: str
    shape: tuple[int, ...]
    offset: int = 0
    fortran: bool = False

    def open(self) -> np.ndarray[Any, Any]:
        """Return the array, mapped into memory to be read."""
        if 0 in self.shape:  # of which there is nothing to map
            return np.empty(self.shape, self.dtype)
        mapped: np.ndarray[Any, Any] = np.memmap(
            self.path, np.dtype(self.dtype), "r", self.offset, self.shape, "F" if self.fortran else "C"
        )
        return mapped
