"""Batches that wait to be scored together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from ..data.batch import Batch
from ..utils.pick import pick
from ..utils.running_means import MANY, RunningMeans

MOST_BATCHES = 64
"""So many batches may wait."""

MOST_ENTRIES = 1 << 16
"""So many labels of a task may wait, so that memory stays small whatever a label is."""

MOST_BYTES = 1 << 25
"""So much memory may be kept by those that wait: a label can be a part of something large, which stays with it."""


Task: TypeAlias = tuple[str, str, Callable[[Tensor, None, Tensor], None]]
"""The source of a task's labels, the name of its predictions, and what takes in both, of one batch or of several."""


class WaitingScores:
    """Losses, labels and predictions of batches that carry the same tasks, kept until there are enough of them.

    To take in a batch between two forward passes costs several times what it costs among others of its kind. Only
    batches like one that was taken in at once before may wait, since that one has passed all checks.

    :param tasks: those that are scored
    :param losses: the names of the losses
    :param means: what takes in the losses, in the order in which they come; None if there are none
    """

    def __init__(self, tasks: Sequence[Task], losses: Sequence[str], means: RunningMeans | None) -> None:
        joined_at_once = means is not None and len(losses) >= MANY
        self._tasks = tasks
        self._means = None if joined_at_once else means
        self._at_once = means if joined_at_once else None
        self._pick_losses = pick(losses)
        self.names = (*(label for label, _, _ in tasks), *(pred for _, pred, _ in tasks), *losses)
        """What is taken from a batch."""
        self._pick = pick(self.names[: 2 * len(tasks)] if joined_at_once else self.names)
        self._waiting: list[Sequence[Tensor]] = []
        self._first: Sequence[Tensor] = ()
        """What a batch held that passed all checks, kept so that nothing else comes to lie in its memory."""
        self._memory: list[int] = []
        """Where its labels lie. A stream that uses the memory of its batches again comes back to it."""
        self._size: int | None = None
        """How many samples batches have that may wait; None where none may."""
        self._most = 1
        self._is_closed = False

    def add(self, batch: Batch) -> bool:
        """Let a batch wait if it may, and return whether it does."""
        size = batch.size
        if size is None or size != self._size or batch.rows:
            return False
        values = self._pick(batch)
        try:
            for value, memory in zip(values, self._memory, strict=False):
                if value.data_ptr() == memory:
                    return False
        except AttributeError:  # labels that are no tensor
            return False
        if self._at_once is not None:
            self._at_once.add(self._pick_losses(batch), size)
        waiting = self._waiting
        waiting.append(values)
        if len(waiting) >= self._most:
            self.take_in()
        return True

    def begin(self, batch: Batch) -> None:
        """Let batches like this one wait, as many of them as memory allows; this one was taken in by itself."""
        values, count = self._pick(batch), len(self._tasks)
        self._size = None
        if self._is_closed or batch.rows or not all(isinstance(value, Tensor) for value in values):
            return
        if any(value.requires_grad for value in values):  # all that it was computed from would wait with it
            return
        labels = values[:count]
        self._first, self._size, self._memory = values, batch.size, [label.data_ptr() for label in labels]
        entries = max((label.numel() for label in labels), default=1)
        storages = {storage.data_ptr(): storage.nbytes() for storage in map(Tensor.untyped_storage, values)}
        kept = sum(storages.values())
        self._most = max(1, min(MOST_BATCHES, MOST_ENTRIES // max(1, entries), MOST_BYTES // max(1, kept)))

    def take_in(self) -> None:
        """Take in all that waits."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        columns, count = list(zip(*waiting, strict=True)), len(self._tasks)
        for index, (_, _, update) in enumerate(self._tasks):
            labels, preds = columns[index], columns[count + index]
            all_labels, all_preds = _joined(labels), _joined(preds)
            if all_labels is not None and all_preds is not None:
                update(all_labels, None, all_preds)
            else:
                for label, pred in zip(labels, preds, strict=True):
                    update(label, None, pred)
        if self._means is not None:
            assert self._size is not None
            self._means.extend([values[2 * count :] for values in waiting], self._size)

    def close(self) -> None:
        """Take in all that waits, and let nothing wait any more."""
        self.take_in()
        self._is_closed, self._size = True, None


def _joined(values: Sequence[Tensor]) -> Tensor | None:
    """Return the rows of tensors as one, or None if they differ in shape, type or device."""
    first = values[0]
    if [value.shape for value in values].count(first.shape) < len(values):
        return None
    try:
        joined = torch.cat(values)  # type: ignore[arg-type]
    except (TypeError, RuntimeError):  # no tensors, none with rows, or on several devices
        return None
    return joined if joined.dtype == first.dtype else None
