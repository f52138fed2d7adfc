"""Sequences of different lengths that lie in files."""

from __future__ import annotations

from typing import Any

from ...constants import MASK_SUFFIX
from ..column import Column
from ..make_column import as_tensor
from ..ragged_column import RaggedColumn
from ..sequence_lengths import SequenceLengths
from .mapped_array import MappedArray


class MappedRaggedColumn(RaggedColumn):
    """A ragged column whose values lie in files.

    :param values: those of all rows, one after another, and behind them one that sequences are padded with
    :param starts: int64 of shape [n], where those of a row begin
    :param lengths: int64 of shape [n], and how many they are
    :param bounds: how long sequences may be in a batch
    """

    def __init__(
        self, name: str, values: MappedArray, starts: MappedArray, lengths: MappedArray, bounds: SequenceLengths
    ) -> None:
        Column.__init__(self, name)
        self._bounds = bounds
        self._mask = name + MASK_SUFFIX
        self.sources = (name, self._mask)
        self._arrays = values, starts, lengths
        self._values, self._starts, self._lengths = (as_tensor(name, array.open()) for array in self._arrays)

    def __reduce__(self) -> tuple[type[MappedRaggedColumn], tuple[Any, ...]]:
        return MappedRaggedColumn, (self._name, *self._arrays, self._bounds)
