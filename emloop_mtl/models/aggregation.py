"""One value out of those that several models give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from ..tasks.nested import HALF


def aggregate(values: Sequence[Any], by_vote: bool) -> Any:
    """Return the mean of values or, entry by entry, the most frequent one; of equally frequent ones the lowest.

    What is floating-point is averaged in any case.

    :param values: tensors, arrays, numbers, or these nested in lists, tuples and mappings, all alike; text can only be
        voted on
    :param by_vote: whether whole numbers are voted on
    :raise DataError: if they differ in shape or kind, or cannot be averaged
    """
    first = values[0]
    if len({_kind(value) for value in values}) > 1:
        raise DataError(f"the models give different kinds of values: {', '.join(map(_shown, values))}")
    if isinstance(first, Tensor):
        tensors = [value.to(first.device) for value in values]
        return _vote(tensors) if by_vote and not (first.is_floating_point() or first.is_complex()) else _mean(tensors)
    if isinstance(first, np.ndarray | np.generic):
        return _aggregate_arrays(values, by_vote)
    if isinstance(first, Mapping):
        return {key: aggregate([value[key] for value in values], by_vote) for key in first}
    if isinstance(first, list | tuple):
        items = [aggregate(entries, by_vote) for entries in zip(*values, strict=True)]
        return type(first)(*items) if hasattr(first, "_fields") else type(first)(items)
    if first is None:
        return None
    if isinstance(first, float) or (isinstance(first, int) and not by_vote):
        return sum(values) / len(values)
    if not by_vote:
        raise DataError(
            f"{_shown(first)} cannot be averaged; leave it out of 'outputs', or set aggregation: major_vote"
        )
    try:
        counts = Counter(values)
        most = max(counts.values())
        return min(value for value, count in counts.items() if count == most)
    except TypeError as error:  # what has no hash, or no order
        raise DataError(f"{_shown(first)} cannot be voted on; leave it out of 'outputs'") from error


def _aggregate_arrays(values: Sequence[Any], by_vote: bool) -> Any:
    first = np.asarray(values[0])
    if first.dtype.kind not in "biufc":
        return np.asarray(aggregate([value.tolist() for value in values], by_vote))
    if not by_vote or first.dtype.kind in "fc":
        return np.mean(np.stack(values), axis=0, dtype=None if first.dtype != np.float16 else np.float32)
    voted = _vote([torch.from_numpy(np.asarray(value).astype(np.int64)) for value in values])
    return voted.numpy().astype(first.dtype)


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    first = tensors[0]
    is_whole = not (first.is_floating_point() or first.is_complex())
    dtype = torch.get_default_dtype() if is_whole else first.dtype
    total = first.to(torch.float32 if dtype in HALF else dtype)
    for tensor in tensors[1:]:
        total = total + tensor
    return (total / len(tensors)).to(dtype)


def _vote(tensors: Sequence[Tensor]) -> Tensor:
    """Return the most frequent whole number of every entry, without waiting for the device."""
    best, most = tensors[0], torch.zeros(tensors[0].shape, dtype=torch.int64, device=tensors[0].device)
    for candidate in tensors:
        count = torch.zeros_like(most)
        for tensor in tensors:
            count += tensor == candidate
        wins = (count > most) | ((count == most) & (candidate < best))
        best, most = torch.where(wins, candidate, best), torch.where(wins, count, most)
    return best


def _kind(value: Any) -> Any:
    """Return what values must have in common."""
    if isinstance(value, Tensor):
        return Tensor, value.shape, value.is_floating_point()
    if isinstance(value, np.ndarray | np.generic):
        return np.ndarray, value.shape, value.dtype.kind
    if isinstance(value, Mapping):
        return Mapping, frozenset(value)
    return (type(value), len(value)) if isinstance(value, list | tuple) else type(value)


def _shown(value: Any) -> str:
    shape = getattr(value, "shape", None)
    if shape is None:
        length = f" of {len(value)} entries" if isinstance(value, list | tuple) else ""
        return f"a {type(value).__name__}{length}"
    return f"{value.dtype} of shape {tuple(shape)}"
