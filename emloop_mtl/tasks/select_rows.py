"""Rows of nested outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from .nested import map_tensors


def select_rows(value: Any, rows: Tensor, size: int) -> Any:
    """Return ``value`` with only some of the batch's rows, without waiting for the device.

    :param value: a tensor, or tensors nested in lists, tuples and mappings; what is no tensor stays as it is, and so
        does a tensor whose first dimension is not the batch's
    :param rows: int64 indices of the rows to keep
    :param size: the number of rows of the batch
    """

    def select(tensor: Tensor) -> Tensor:
        if tensor.dim() == 0 or tensor.shape[0] != size:
            return tensor
        return tensor.index_select(0, rows.to(tensor.device, non_blocking=True))

    return map_tensors(value, select)


def spread_rows(value: Any, rows: Tensor, size: int) -> Any:
    """Return ``value``, which holds some of a batch's rows, with all of them; those that it lacks are zero, or None.

    :param value: a tensor, or tensors nested in lists, tuples and mappings; also a list of whatever the rows hold
    :param rows: int64 indices of the rows that it holds
    :param size: the number of rows of the batch
    """
    count = rows.shape[0]

    def spread(tensor: Tensor) -> Tensor:
        if tensor.dim() == 0 or tensor.shape[0] != count:
            return tensor
        places = rows.to(tensor.device, non_blocking=True)
        return tensor.new_zeros((size, *tensor.shape[1:])).index_copy(0, places, tensor)

    if isinstance(value, list) and len(value) == count and not any(isinstance(item, Tensor) for item in value):
        found: list[Any] = [None] * size
        for row, item in zip(rows.tolist(), value, strict=True):
            found[row] = item
        return found
    return map_tensors(value, spread)


def connected_zero(*values: Any) -> Tensor:
    """Return a 0-d zero whose gradient reaches all floating tensors in ``values`` and is zero there.

    Nothing is multiplied, so that an infinite or undefined output leaves no trace.
    """
    zeros = [tensor.reshape(-1)[:0].sum().float() for tensor in _floating(values)]
    if not zeros:
        return torch.zeros(())
    total = zeros[0]
    for zero in zeros[1:]:
        total = total + zero.to(total.device, non_blocking=True)
    return total


def _floating(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _floating(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _floating(item)
