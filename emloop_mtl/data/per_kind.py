"""What needs to be worked out only once for many batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from .batch import Batch

T = TypeVar("T")

MOST_KINDS = 1024
"""What is known of more kinds of batches is forgotten: where rows of n tasks are mixed, there may be 2^n kinds."""


class PerKind(Generic[T]):
    """Something that is the same for all batches of a kind, worked out when the first of them comes.

    Batches are of one kind if their loader, their tasks with the sources of their labels, and the names of their
    sources and outputs are the same.

    :param work_out: gets the first batch of a kind and returns what is kept for it
    """

    def __init__(self, work_out: Callable[[Batch], T]) -> None:
        self._work_out = work_out
        self._found: dict[Any, T] = {}

    def of(self, batch: Batch) -> T:
        """Return what was worked out for the kind of a batch."""
        kind = batch.kind
        # What a model takes for one kind has the same tasks, sources and outputs; to compare all names takes longer.
        key: Any = (kind, batch.data_name, len(batch)) if kind is not None else _name_all(batch)
        found = self._found.get(key)
        if found is None:
            if len(self._found) >= MOST_KINDS:
                self._found.clear()
            found = self._found[key] = self._work_out(batch)
        return found


def _name_all(batch: Batch) -> tuple[object, ...]:
    return batch.data_name, tuple(batch), tuple(batch.tasks.items())
