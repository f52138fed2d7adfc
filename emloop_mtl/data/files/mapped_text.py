"""Texts that lie in files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

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
            return [self[row] for row in range(*index.indices(len(self)))]
        start = int(self._starts[index])
        return self._values[start : start + int(self._lengths[index])].tobytes().decode()
