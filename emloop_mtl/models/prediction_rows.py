"""What is predicted of every sample, as rows of plain values."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from torch import Tensor

from ..data.batch import Batch
from .predicted_batch import PredictedBatch, plain
from .sequences import listed
from .task_values import TaskValues

Row = dict[str, Any]

COLUMNS = ("uid", "data", "task", "label", "pred", "prob")
"""The keys of every row."""


class PredictionRows:
    """Turns evaluated batches into one row per sample and task about it; the rows of a sample stand together.

    A row has the sample's uid, the name of its dataset, the task, the label (None where there is none), the prediction,
    and the probabilities (None where values are predicted): a number, or lists of them in the shape that the task's
    output has for one sample. A column [n, 1] counts as [n]. A task of tokens has lists as long as the sequence is,
    with None where a token has no label.

    The rows of a batch are handed out when the next one comes, so that nobody waits for the device.

    :param tasks: names of the tasks to tell of; None for all
    :param count: samples that were seen before, for rows without uids, which are numbered
    """

    def __init__(self, tasks: Collection[str] | None = None, count: int = 0) -> None:
        self.count = count
        """Samples seen so far."""
        self._tasks = tasks
        self._waiting: PredictedBatch | None = None

    def take(self, batch: Batch) -> list[Row]:
        """Take in a batch with its outputs ``<task>/pred`` and ``<task>/prob``; return the rows of the one before."""
        rows = self.rest()
        tasks = [task for task in batch.tasks if self._tasks is None or task in self._tasks]
        if tasks:
            self._waiting = PredictedBatch(batch, batch, tasks, self.count)
        self.count += batch.count() or 0
        return rows

    def rest(self) -> list[Row]:
        """Return the rows of the last batch."""
        waiting, self._waiting = self._waiting, None
        return [] if waiting is None else list(_rows(waiting))


def _rows(batch: PredictedBatch) -> Iterator[Row]:
    uids, values = batch.read()
    columns = [
        (task, _about(found), *_columns(found, batch.size, task in batch.predicts_values))
        for task, found in values.items()
    ]
    for index, uid in enumerate(uids):
        for task, about, labels, preds, probs in columns:
            if about is not None and index not in about:
                continue
            cells = (uid, batch.data_name_of(index), task, labels[index], preds[index], probs[index])
            yield dict(zip(COLUMNS, cells, strict=True))


def _about(found: TaskValues) -> set[int] | None:
    """Return the rows that a task is about, None for all."""
    return None if found.share is None else set(found.share.tolist())


def _columns(found: TaskValues, size: int, predicts_values: bool) -> tuple[list[Any], list[Any], list[Any]]:
    """Return labels, predictions and probabilities of a task, row by row."""
    label, prob, pred, rows = found[:4]
    if found.tokens is not None:
        nothing: list[Any] = [None] * size
        return (
            nothing if label is None else listed(label, found.tokens, found.labelled_tokens),
            nothing if pred is None else listed(pred, found.tokens),
            nothing if prob is None or predicts_values else listed(prob, found.tokens),
        )
    # [n, 1] may also hold sequences, all of length one in this batch; then probabilities have another shape.
    if _is_column(pred) and _is_column(prob):
        label, prob, pred = (_flat(value) for value in (label, prob, pred))
    elif getattr(pred, "ndim", 0) == 1:
        label, prob = _flat(label), _flat(prob)
    labels = [None] * size if label is None else _as_list(label)
    if rows is not None:
        labelled = set(_as_list(rows))
        labels = [value if index in labelled else None for index, value in enumerate(labels)]
    return labels, _as_list(pred), [None] * size if predicts_values else _as_list(prob)


def _is_column(value: Any) -> bool:
    return getattr(value, "ndim", 0) == 2 and value.shape[1] == 1


def _flat(value: Any) -> Any:
    return value.reshape(-1) if _is_column(value) else value


def _as_list(value: Any) -> list[Any]:
    return plain(value) if isinstance(value, Tensor) else [plain(item) for item in value]
