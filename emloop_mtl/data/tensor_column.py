"""Values of one shape."""

from __future__ import annotations

from typing import Any

import torch

from .column import Column

ALIGNMENT = 64
"""Bytes at whose multiples torch lets tensors begin. Arithmetic on floats elsewhere may round differently."""


class TensorColumn(Column):
    """Values of one shape, in one tensor.

    :param values: shape [n, ...]
    :param in_memory: whether reading a row costs no more than copying it
    """

    def __init__(self, name: str, values: torch.Tensor, in_memory: bool = True) -> None:
        super().__init__(name)
        self.in_memory = in_memory
        self._values = values.detach()
        self._on_host = values.device.type == "cpu"

    def __len__(self) -> int:
        return len(self._values)

    @property
    def values(self) -> torch.Tensor:
        """All values; not to be changed."""
        return self._values

    @property
    def version(self) -> int | None:
        """How often torch has changed the values; None where torch does not count that."""
        return None if self._values.is_inference() else self._values._version

    def row(self, index: int) -> torch.Tensor:
        return self._values[index].clone()

    def add_to(self, batch: dict[str, Any], rows: torch.Tensor) -> None:
        batch[self._name] = self._copies(rows)

    def bytes_at_once(self, batch_size: int) -> int | None:
        """Return the bytes of a batch, None if batches cannot be copied several at a time.

        They can where the values are in memory and each batch then begins where a tensor of its own could.
        """
        values = self._values
        if not self.in_memory or type(values) is not torch.Tensor or values.layout != torch.strided or not len(values):
            return None
        size = batch_size * (values.numel() // len(values)) * values.element_size()
        rounds = values.is_floating_point() or values.is_complex()
        return None if rounds and size % ALIGNMENT else size

    def batches(self, rows: torch.Tensor, batch_size: int) -> tuple[torch.Tensor, ...]:
        """Return copies of the values at ``rows``, as one tensor per batch; each may be changed without the others."""
        return split(self._copies(rows), batch_size)

    def _copies(self, rows: torch.Tensor) -> torch.Tensor:
        if not self._on_host:
            rows = rows.to(self._values.device, non_blocking=True)
        return self._values.index_select(0, rows)


def split(rows: torch.Tensor, batch_size: int) -> tuple[torch.Tensor, ...]:
    """Return the rows in parts of ``batch_size``; torch does not take a change of one part for one of the others."""
    return rows.unsafe_split(batch_size)
