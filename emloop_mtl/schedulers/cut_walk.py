"""The way of a scheduler through the rows of a loader that only yields batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import DataError
from ..utils.reading_again import ReadingAgain
from .loader_walk import LoaderWalk

if TYPE_CHECKING:
    from ..data.batch import Batch
    from .row_loader import RowLoader


class CutWalk:
    """The rows of one loader in one pass of a scheduler, cut out of its batches.

    :param loader: where the batches come from
    :param pass_number: number of the scheduler's pass
    :param asked: how many batches there are, starting over as often as need be; None for those of one round, or
        where it is known how many rows will be asked for
    :param start: rows that were had before; where the length is known, batches before them are not made again
    """

    def __init__(self, loader: RowLoader, pass_number: int, asked: int | None, start: int = 0) -> None:
        self._loader = loader
        self._left = asked
        self._waiting: deque[tuple[Batch, int, int]] = deque()
        """What was read and not taken: a batch, the first of its rows that was not, and how many rows it has."""
        self._ahead = 0
        """How many rows that are."""
        self._again: ReadingAgain | None = None
        walk, rest = LoaderWalk(loader, pass_number, asked), start
        if loader.num_samples and loader.num_batches and loader.batch_size:
            rounds, rest = divmod(start, loader.num_samples)
            had, rest = divmod(rest, loader.batch_size)
            for _ in range(rounds * loader.num_batches + had):
                walk.skip()
        self._batches = walk.batches()
        self._number = start - rest
        """Number of the row that comes next."""
        if rest:
            self.skip(rest)

    def has(self, number: int) -> bool:
        """Tell whether there is a row of this number, counted from the beginning of the pass."""
        while self._number + self._ahead <= number:
            batch = None if self._left == 0 else next(self._batches, None)
            if batch is None:
                return False
            if self._left is not None:
                self._left -= 1
            size = batch.count()
            if size is None:
                raise DataError(f"loader {self._loader.name!r}: its batches hold no rows that could be counted")
            self._waiting.append((batch, 0, size))
            self._ahead += size
        return True

    def skip(self, count: int) -> None:
        """Leave out the next rows, which were had before."""
        if self._again is None:
            self._again = ReadingAgain(f"loader {self._loader.name!r}", None)
        self._again.count()
        for _ in self._next(count):
            pass

    def take(self, count: int) -> Iterator[Batch]:
        """Yield the next rows, in as few parts as may be.

        :raise DataError: if there are not so many
        """
        for batch, first, stop in self._next(count):
            yield self._loader.cut(batch, first, stop)

    def _next(self, count: int) -> Iterator[tuple[Batch, int, int]]:
        while count:
            if not self.has(self._number):
                raise DataError(f"loader {self._loader.name!r} ended after {self._number} rows")
            batch, first, size = self._waiting.popleft()
            stop = min(first + count, size)
            if stop < size:
                self._waiting.appendleft((batch, stop, size))
            found = stop - first
            self._number += found
            self._ahead -= found
            count -= found
            if found:
                yield batch, first, stop
