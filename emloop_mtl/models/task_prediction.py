"""What a task says about the rows of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..errors import DataError
from ..tasks.nested import without_half
from .sequences import sequences
from .task_values import TaskValues


class TaskPrediction:
    """The predictions of one task on the host, row by row in the order of the batches.

    :param task: name of the task
    """

    def __init__(self, task: str) -> None:
        self.task = task
        self._uids: list[Any] = []
        self._is_labelled: list[np.ndarray] = []
        self._labels: list[np.ndarray | None] = []
        self._probs: list[np.ndarray] = []
        self._preds: list[np.ndarray] = []
        self._is_labelled_token: list[np.ndarray] = []
        """Of a task of tokens."""

    def add(self, uids: Sequence[Any], values: TaskValues) -> None:
        """Add the rows of a batch that the task is about, values on the host.

        :param uids: what identifies each row
        """
        about = None if values.share is None else values.share.numpy()
        if values.tokens is not None:
            labelled = values.labelled_tokens
            is_labelled = labelled.any(1).numpy()
            self._is_labelled_token.append(_array(sequences(labelled, values.tokens), about))
            said = [None if value is None else sequences(value, values.tokens) for value in values[:3]]
            values = values._replace(label=said[0], prob=said[1], pred=said[2])
        else:
            is_labelled = np.full(len(uids), values.label is not None and values.rows is None)
            if values.rows is not None and values.label is not None:
                is_labelled[values.rows.numpy()] = True
        self._uids += uids if about is None else [uids[row] for row in about]
        self._is_labelled.append(is_labelled if about is None else is_labelled[about])
        self._labels.append(None if values.label is None else _array(values.label, about))
        if values.prob is not None:  # as of a head that tells none
            self._probs.append(_array(values.prob, about))
            self._preds.append(_array(values.pred, about))

    @property
    def uids(self) -> list[Any]:
        """What identifies each row: the loader's uids, else running numbers."""
        return self._uids

    @property
    def is_labelled(self) -> np.ndarray:
        """Whether each row has a label, [n] of bool."""
        return np.concatenate(self._is_labelled) if self._is_labelled else np.zeros(0, dtype=bool)

    @property
    def labels(self) -> np.ndarray | None:
        """The labels, [n, ...], of tokens an array for each sequence.

        None if some batch had none, ``labelled`` returns those of the others.

        Rows and tokens that are marked as having no label hold that mark.
        """
        labels = [label for label in self._labels if label is not None]
        return self._joined(labels) if len(labels) == len(self._labels) else None

    @property
    def probs(self) -> np.ndarray | None:
        """Probabilities [n, classes] or [n], or the predicted values; of tokens an array for each sequence."""
        return self._joined(self._probs)

    @property
    def preds(self) -> np.ndarray | None:
        """Predicted classes, or the predicted values; of tokens an array for each sequence."""
        return self._joined(self._preds)

    def labelled(self) -> TaskPrediction:
        """Return the same for the labelled rows and tokens alone, so that labels and predictions can be compared."""
        found = TaskPrediction(self.task)
        for label, kept in zip(self._labels, self._is_labelled, strict=True):
            if label is not None:
                found._labels.append(label[kept])
                found._is_labelled.append(kept[kept])
        is_labelled = self.is_labelled
        found._uids = [uid for uid, kept in zip(self._uids, is_labelled, strict=True) if kept]
        for parts, whole in ((found._probs, self.probs), (found._preds, self.preds)):
            if whole is not None:
                parts.append(whole[is_labelled])
        if self._is_labelled_token:
            kept = np.concatenate(self._is_labelled_token)[is_labelled]
            found._labels = [*_of_tokens(found.labels, kept)]
            found._probs = _of_tokens(found.probs, kept)
            found._preds = _of_tokens(found.preds, kept)
            found._is_labelled_token = _of_tokens(kept, kept)
        return found

    def __len__(self) -> int:
        return len(self._uids)

    def _joined(self, parts: list[np.ndarray]) -> np.ndarray | None:
        if not parts:
            return None
        try:
            return np.concatenate(parts)
        except ValueError as error:
            text = f"task {self.task!r}: what it says has another shape from batch to batch, so it makes no one array"
            raise DataError(f"{text}; predict the batches one by one") from error


def _of_tokens(rows: np.ndarray | None, kept: np.ndarray) -> list[np.ndarray]:
    """Return sequences with some of their tokens only, as the one part that there is; none of nothing."""
    if rows is None:
        return []
    found = np.empty(len(rows), dtype=object)
    for index, (row, tokens) in enumerate(zip(rows, kept, strict=True)):
        found[index] = row[tokens]
    return [found]


def _array(value: Any, rows: np.ndarray | None = None) -> np.ndarray:
    """Return a value, or some of its rows, as an array."""
    array = without_half(value).numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    return array if rows is None else array[rows]
