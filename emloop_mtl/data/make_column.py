"""Choosing the column that suits some values."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
import torch

from ..errors import DataError
from .column import Column
from .list_column import ListColumn
from .ragged_column import RaggedColumn
from .sequence_lengths import SequenceLengths
from .tensor_column import TensorColumn

NUMBERS = (bool, int, float, np.number, np.bool_)


def make_column(name: str, values: Any, bounds: SequenceLengths | None = None) -> Column:
    """Return the column that suits ``values``.

    :param name: name of the source
    :param values: a tensor or array whose first dimension counts the rows (a memory-mapped array stays on disk), or
        a list: numbers make a tensor, tensors or arrays of one shape are stacked, 1-d ones are a ragged column,
        anything else stays a list
    :param bounds: how long the sequences of a ragged column may be in a batch
    :raise DataError: naming the source, if the values fit together in none of these ways
    """
    if isinstance(values, Column):
        return values
    if isinstance(values, np.ndarray) and values.dtype.kind in "OSU":
        values = values.tolist() if values.ndim else values
    if isinstance(values, (torch.Tensor, np.ndarray)):
        if values.ndim == 0:
            raise DataError(f"source {name!r}: a single value, where one value per row is needed")
        return TensorColumn(name, as_tensor(name, values), in_memory=not is_mapped(values))
    if not isinstance(values, Sequence) or isinstance(values, (str, bytes)):
        raise DataError(
            f"source {name!r}: a column is a tensor, an array or a list, not of type {type(values).__name__}"
        )
    if len(values) > 0 and all(isinstance(value, NUMBERS) for value in values):
        return TensorColumn(name, numbers(name, values))
    if len(values) > 0 and all(isinstance(value, (torch.Tensor, np.ndarray)) for value in values):
        return _column_of_tensors(name, [as_tensor(name, value) for value in values], bounds or SequenceLengths())
    return ListColumn(name, values)


def numbers(name: str, values: Sequence[Any]) -> torch.Tensor:
    """Return numbers as a tensor: bool, int64 or, with a float among them, torch's default float."""
    try:
        return torch.tensor([value.item() if isinstance(value, np.generic) else value for value in values])
    except (RuntimeError, OverflowError, ValueError) as error:
        raise DataError(f"source {name!r}: the numbers do not fit in a tensor: {error}") from error


def as_tensor(name: str, array: torch.Tensor | np.ndarray[Any, Any]) -> torch.Tensor:
    """Return an array as a tensor that shares its memory wherever that is possible.

    :raise DataError: if torch has no such dtype
    """
    if isinstance(array, torch.Tensor):
        return array
    if array.dtype.kind in "iufc" and not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if any(stride < 0 for stride in array.strides):
        array = array.copy()
    try:
        with warnings.catch_warnings():
            # Columns are only ever read, so one that may not be written to is as good.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            return torch.from_numpy(array)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"source {name!r}: torch has no equivalent of dtype {array.dtype}; convert the column"
        ) from error


def of_one_dtype(values: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return the tensors in the smallest dtype that holds all of them."""
    dtypes = {value.dtype for value in values}
    if len(dtypes) == 1:
        return list(values)
    common = reduce(torch.promote_types, dtypes)
    return [value.to(common) for value in values]


def is_mapped(values: torch.Tensor | np.ndarray[Any, Any]) -> bool:
    """Tell whether an array is a memory-mapped file, or a part of one."""
    base: Any = values
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap):
            return True
        base = base.base
    return False


def _column_of_tensors(name: str, values: list[torch.Tensor], bounds: SequenceLengths) -> Column:
    values = of_one_dtype(values)
    if all(value.ndim == 1 for value in values):
        return RaggedColumn(name, values, bounds)
    for row, value in enumerate(values):
        if value.shape != values[0].shape:
            raise DataError(
                f"source {name!r}: row 0 has shape {list(values[0].shape)}, row {row} has {list(value.shape)}; "
                f"values may differ in length only if all of them are 1-d"
            )
    return TensorColumn(name, torch.stack(values))
