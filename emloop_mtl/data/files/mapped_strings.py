"""Texts in a file of numpy's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np

from .mapped_array import MappedArray


class MappedStrings(Sequence[Any]):
    """The texts, or bytes, of an array of numpy's that lies in a file; each is read when it is asked for.

    :param array: where they lie; of dtype U or S
    """

    def __init__(self, array: MappedArray) -> None:
        self._array = array
        self._values = array.open()

    def __reduce__(self) -> tuple[type[MappedStrings], tuple[MappedArray]]:
        return MappedStrings, (self._array,)

    def __len__(self) -> int:
        return len(self._values)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...

    def __getitem__(self, index: int | slice) -> Any:
        return self._values[index].tolist()

    def take(self, rows: np.ndarray[Any, Any]) -> list[Any]:
        """Return the texts of some rows."""
        texts: list[Any] = self._values[rows].tolist()
        return texts
