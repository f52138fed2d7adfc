"""Labels that differ in length from row to row."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NoReturn

import torch
from torch import Tensor

from ..constants import MASK_SUFFIX
from ..errors import DataError
from .task import Task
from .tokens import length_mismatch


def takes_padding(task: Task, label: str, sources: Collection[str]) -> bool:
    """Whether a task would take what labels are padded with for labels.

    :param label: the source of the labels
    :param sources: the names of all sources
    """
    by_row = task.tokens is None and task.loss is not None and not task.loss.takes_all_outputs
    return by_row and label + MASK_SUFFIX in sources


def refuse_padding(task: Task, label: str, batch: Mapping[str, Any]) -> None:
    """Refuse labels of a task that ``takes_padding`` where some of a batch are padded.

    :raise DataError: saying what to do about them
    """
    if torch.as_tensor(batch[label + MASK_SUFFIX]).any():
        _refuse(task, label)


def check_lengths(
    task: Task, rows: Tensor, lengths: Tensor, label: str, lengths_of: Callable[[str], Tensor | None]
) -> None:
    """Check that labels of tokens are as many as the tokens, and that no others differ in length.

    :param rows: the numbers of the rows that are read, int64
    :param lengths: how many labels each row has
    :param label: the source of the labels
    :param lengths_of: returns the same for another source, None where it is not known
    :raise DataError: naming a row where there are more or fewer, or for labels that differ in length for no reason
    """
    if task.tokens is not None:
        source = task.tokens.source
        tokens = lengths_of(source)
        if tokens is not None and len(odd := (tokens[rows] != lengths[rows]).nonzero()):
            row = int(rows[odd[0]])
            error = DataError(length_mismatch(row, source, int(tokens[row]), label, int(lengths[row])))
            raise task.label_error(error, label) from error
    elif takes_padding(task, label, (label + MASK_SUFFIX,)) and len(set(lengths[rows].tolist())) > 1:
        _refuse(task, label)


def _refuse(task: Task, label: str) -> NoReturn:
    text = "labels differ in length from row to row; set the task's 'tokens' to the source of the sequences that they"
    error = DataError(f"{text} belong to, one label to each token")
    raise task.label_error(error, label) from error
