"""Texts that lie in a file."""

from __future__ import annotations

from typing import Any

import torch

from ..list_column import ListColumn
from .mapped_strings import MappedStrings
from .mapped_text import MappedText


class MappedTextColumn(ListColumn):
    """Texts that lie in a file, of which those of a batch are found together."""

    def __init__(self, name: str, values: MappedText | MappedStrings) -> None:
        super().__init__(name, values)
        self._take = values.take

    def add_to(self, batch: dict[str, Any], rows: torch.Tensor) -> None:
        batch[self._name] = self._take(rows.numpy())
