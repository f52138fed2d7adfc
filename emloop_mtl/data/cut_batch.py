"""Cutting some rows out of a batch."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..constants import MASK_SUFFIX
from ..errors import DataError
from .batch import Batch


def cut_batch(batch: Batch, first: int, stop: int, ragged: Collection[str] = (), least: int = 0) -> Batch:
    """Return rows of a batch that was just read.

    :param batch: all of its sources hold a value for each row
    :param first: number of the first row
    :param stop: number of the row after the last
    :param ragged: sources to pad to the longest of these rows alone; what else has a mask stays as wide as it is
    :param least: how long these are at least
    :raise DataError: naming a source whose rows cannot be told apart
    """
    size = batch.count()
    if first == 0 and stop == size:
        return batch
    sources = {name: _cut(name, value, first, stop, size, batch.data_name) for name, value in batch.items()}
    for name in ragged:
        mask = sources[name + MASK_SUFFIX]
        width = max(least, int((~mask).sum(1).max()))
        sources[name], sources[name + MASK_SUFFIX] = sources[name][:, :width], mask[:, :width]
    return Batch(sources, tasks=batch.tasks, data_name=batch.data_name, split=batch.split, size=stop - first)


def is_mask_of(mask: Any, value: Any) -> bool:
    """Tell whether ``mask`` says where the rows of ``value`` are padded."""
    if not (isinstance(mask, Tensor) and isinstance(value, Tensor) and mask.dtype is torch.bool and value.ndim > 1):
        return False
    return mask.shape == value.shape[:2]


def _cut(name: str, value: Any, first: int, stop: int, size: int | None, loader: str) -> Any:
    has_rows = value.ndim > 0 if isinstance(value, Tensor | np.ndarray) else isinstance(value, list | tuple)
    if not has_rows or len(value) != size:
        found = f"{len(value)} values" if has_rows else f"a {type(value).__name__}"
        text = f"source {name!r} of loader {loader!r} has {found} for {size} rows"
        raise DataError(f"{text}; a mixed batch needs one value for each row")
    return value[first:stop]
