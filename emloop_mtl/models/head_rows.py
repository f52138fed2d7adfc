"""Which rows of a batch are for which head."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.batch import Batch
from ..data.share import Share
from ..errors import DataError, nearest
from ..tasks.task import Task
from ..utils.model_note import ModelNote


def share_out(batch: Batch, source: str, tasks: Mapping[str, Task], heads: Mapping[int, str]) -> None:
    """Find out which rows of a batch go to which head; which of them have labels is found out later.

    :param source: the source that tells it
    :param tasks: the heads as tasks by name
    :param heads: their names by the numbers that ``source`` has for them, those of removed ones included whose rows are
        left out
    :raise DataError: for a row whose head there is not
    """
    known = batch.tasks or {name: task.label if task.label in batch else None for name, task in tasks.items()}
    known = {**known, **{name: None for name in heads.values() if name not in tasks and name not in known}}
    size = batch.count()
    try:
        found = head_rows(batch[source], size, heads, source, known)
    except DataError as error:
        error.add_note(ModelNote(f"as task_source says, {source!r} tells each row's head", ("task_source",)))
        raise
    batch.tasks = {name: known[name] for name in found}
    for name, rows in found.items():
        if len(rows) < (size or 0):
            batch.shares[name], batch.rows[name] = Share(rows, rows), rows


def head_rows(
    values: Any, size: int | None, heads: Mapping[int, str], source: str, allowed: Collection[str]
) -> dict[str, Tensor]:
    """Return the int64 indices of the rows of each head that has some, in the order of the heads.

    :param values: of each row the name of its head, or its number
    :param size: how many rows there are
    :param heads: the names of all heads by their numbers, in their order
    :param source: the source that the values come from, for messages
    :param allowed: the heads that the batch may be for
    :raise DataError: for a value that names no head
    """
    is_column = isinstance(values, list | tuple) or (isinstance(values, Tensor | np.ndarray) and values.ndim > 0)
    if not is_column or len(values) != size:
        found = f"{len(values)} values" if is_column else f"a {type(values).__name__}"
        raise DataError(f"source {source!r} must hold the head of each of {size} rows, not {found}")
    numbers = _numbers(values, heads, source)
    order = numbers.argsort(stable=True)  # once for all heads, however many there are
    present, counts = torch.unique_consecutive(numbers[order], return_counts=True)
    groups = dict(zip(present.tolist(), torch.split(order, counts.tolist()), strict=True))
    for number, rows in groups.items():
        if number not in heads:
            known = ", ".join(f"{key}: {name}" for key, name in heads.items())
            text = f"source {source!r}: row {int(rows[0])} is for head number {number}, which there is not"
            raise DataError(f"{text}; heads are {known}")
        if heads[number] not in allowed:
            text = f"source {source!r}: row {int(rows[0])} is for head {heads[number]!r}"
            raise DataError(f"{text}, but the loader has only {', '.join(allowed)}")
    return {name: groups[key] for key, name in heads.items() if key in groups}


def _numbers(values: Any, heads: Mapping[int, str], source: str) -> Tensor:
    """Return the number of each row's head, int64 on the host."""
    if isinstance(values, Tensor):
        numbers = values.cpu()
    else:
        listed = values.tolist() if isinstance(values, np.ndarray) else list(values)
        places = {name: number for number, name in heads.items()}
        if any(isinstance(value, str) for value in listed):
            for row, value in enumerate(listed):
                if value not in places:
                    hint = nearest(str(value), places)
                    raise DataError(f"source {source!r}: row {row} is for head {value!r}, which there is not{hint}")
            return torch.tensor([places[value] for value in listed])
        numbers = torch.as_tensor(listed)
    if numbers.is_floating_point() or numbers.is_complex() or numbers.dtype is torch.bool:
        text = f"source {source!r} must hold the name of a head for each row, or its number, not {numbers.dtype}"
        raise DataError(text)
    numbers = numbers.long()
    numbers = numbers.squeeze(1) if numbers.dim() == 2 and numbers.shape[1] == 1 else numbers
    if numbers.dim() != 1:
        shape = tuple(numbers.shape)
        raise DataError(f"source {source!r} must hold one head for each row, not values of shape {shape}")
    return numbers
