"""What stores the values of one source."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch


class Column(ABC):
    """The values of one source.

    :param name: name of the source
    """

    def __init__(self, name: str) -> None:
        self.sources: tuple[str, ...] = (name,)
        self._name = name

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def row(self, index: int) -> Any:
        """Return a copy of one value."""

    @abstractmethod
    def add_to(self, batch: dict[str, Any], rows: torch.Tensor) -> None:
        """Enter copies of the values at ``rows``, int64 indices, into ``batch``."""
