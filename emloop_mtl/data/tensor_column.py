"""Values of one shape."""

from __future__ import annotations

from typing import Any

import torch

from .column import Column

ALIGNMENT = 64
"""Bytes at whose multiples torch lets tensors begin. Arithmetic on floats elsewhere may round differently."""

_SIGNED = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}
"""Dtypes of whose rows torch makes no copies, and others of the same size."""


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
        """How often the values were changed; None where that is not counted: numpy writes to the host unnoticed."""
        return None if self._on_host or self._values.is_inference() else self._values._version

    def row(self, index: int) -> torch.Tensor:
        return self._values[index].clone()

    def add_to(self, batch: dict[str, Any], rows: torch.Tensor) -> None:
        batch[self._name] = self.copies(rows)

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

    def copies(self, rows: torch.Tensor) -> torch.Tensor:
        """Return copies of the values at ``rows``, int64 indices."""
        if not self._on_host:
            rows = rows.to(self._values.device, non_blocking=True)
        values = self._values
        if values.dtype in _SIGNED:
            return values.view(_SIGNED[values.dtype]).index_select(0, rows).view(values.dtype)
        return values.index_select(0, rows)
