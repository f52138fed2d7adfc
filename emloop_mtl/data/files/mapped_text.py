"""Texts that lie in files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np

from .mapped_array import MappedArray


class MappedText(Sequence[str]):
    """Texts in files, each read when it is asked for.

    :param values: uint8 of shape [m], all texts in UTF-8, one after another
    :param starts: int64 of shape [n], where each begins
    :param lengths: int64 of shape [n], and how many bytes it has
    """

    def __init__(self, values: MappedArray, starts: MappedArray, lengths: MappedArray) -> None:
        self._arrays = values, starts, lengths
        self._values, self._starts, self._lengths = (array.open() for array in self._arrays)
        self._view = self._values.data

    def __reduce__(self) -> tuple[type[MappedText], tuple[Any, ...]]:
        return MappedText, self._arrays

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return self.take(np.arange(*index.indices(len(self))))
        return self.take(np.array([index]))[0]

    def take(self, rows: np.ndarray[Any, Any]) -> list[str]:
        """Return the texts of some rows."""
        starts = self._starts[rows]
        ends = starts + self._lengths[rows]
        return [str(self._view[start:end], "utf-8") for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
