"""Sequences of different lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..constants import MASK_SUFFIX
from .column import Column
from .sequence_lengths import SequenceLengths


class RaggedColumn(Column):
    """Sequences of different lengths, padded to the longest of a batch, with a mask that is True where padded.

    :param values: 1-d tensors of one dtype
    :param bounds: how long they may be in a batch
    """

    def __init__(self, name: str, values: Sequence[torch.Tensor], bounds: SequenceLengths) -> None:
        super().__init__(name)
        self._bounds = bounds
        self._mask = name + MASK_SUFFIX
        self.sources = (name, self._mask)
        self._lengths = torch.tensor([len(value) for value in values])
        self._starts = self._lengths.cumsum(0) - self._lengths
        # Behind them stands what sequences are padded with.
        self._values = torch.cat([*values, values[0].new_zeros(1)]).detach()

    @property
    def lengths(self) -> torch.Tensor:
        """How long each sequence is, int64 [n]; not to be changed."""
        return self._lengths

    def __len__(self) -> int:
        return len(self._lengths)

    def row(self, index: int) -> torch.Tensor:
        start = int(self._starts[index])
        return self._values[start : start + int(self._lengths[index])].clone()

    def add_to(self, batch: dict[str, Any], rows: torch.Tensor) -> None:
        lengths = self._lengths[rows]
        columns = torch.arange(self._bounds.width(int(lengths.max()) if len(rows) else 0))
        mask = columns >= lengths.unsqueeze(1)
        places = (self._starts[rows].unsqueeze(1) + columns).masked_fill_(mask, len(self._values) - 1)
        batch[self._name] = self._values.index_select(0, places.flatten()).view(places.shape)
        batch[self._mask] = mask
