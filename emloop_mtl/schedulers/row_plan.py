"""Which rows of which loaders make the next batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator

from .row_turns import RowTurns

Planned = list[tuple[int, int]]
"""The loaders that the rows of a batch are of, in their order, and how many rows of each."""


class RowPlan:
    """Plans batches of rows, ahead of reading where a loader reads ahead.

    :param turns: whose rows come next
    :param batch_size: rows of a batch
    :param limit: how many rows there are at most; None for as many as the loaders have
    :param drop_last: leave out a last batch that is not full
    :param by_number: the loaders that ask for the counts of their rows
    """

    def __init__(
        self, turns: RowTurns, batch_size: int, limit: int | None, drop_last: bool, by_number: Collection[int]
    ) -> None:
        self._turns = turns
        self._batch_size = batch_size
        self._limit = limit
        self._drop_last = drop_last
        self._planned: deque[Planned] = deque()
        self._by_number = by_number
        self._counts: dict[int, deque[int]] = {}
        """Rows of each of these loaders in the batches that it has not read for."""
        self.starts: dict[int, int] = {}
        """How many rows of a loader were had before the first that it gives to a batch."""

    def skip(self, count: int) -> None:
        """Leave out batches that were had before; the lengths of all loaders must be known."""
        rows = count * self._batch_size
        if self._limit is not None:
            rows = min(rows, self._limit)
            self._limit -= rows
        self._turns.skip(rows)

    def skip_one(self) -> Planned:
        """Leave out a batch that was had before, and return what it consists of."""
        return self._take()

    def next(self) -> Planned | None:
        """Return what the next batch consists of, None if there is none."""
        return self._planned.popleft() if self._planned or self._plan() else None

    def counts(self, index: int) -> Iterator[int]:
        """Yield how many rows of a loader each batch takes that takes some."""
        waiting = self._counts.setdefault(index, deque())
        while waiting or self._plan_for(waiting):
            yield waiting.popleft()

    def _plan_for(self, waiting: deque[int]) -> bool:
        while not waiting:
            if not self._plan():
                return False
        return True

    def _plan(self) -> bool:
        planned = self._take()
        if not planned:
            return False
        for index, count in planned:
            if index not in self.starts:
                self.starts[index] = self._turns.taken(index) - count
            if index in self._by_number:
                self._counts.setdefault(index, deque()).append(count)
        self._planned.append(planned)
        return True

    def _take(self) -> Planned:
        rows = self._batch_size if self._limit is None else min(self._batch_size, self._limit)
        planned = self._turns.take(rows) if rows else []
        if self._limit is not None:
            self._limit -= rows
        if self._drop_last and sum(count for _, count in planned) < self._batch_size:
            return []
        return planned
