"""The way of a scheduler through the rows of one loader."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

from ..errors import DataError

if TYPE_CHECKING:
    from ..data.batch import Batch
    from .row_loader import RowLoader


class RowWalk:
    """The rows of one loader in one pass of a scheduler, read by their numbers.

    A loader of which more rows are asked for than it has starts over, in an order of its own for each round.

    :param loader: where the rows come from
    :param pass_number: number of the scheduler's pass
    :param counts: how many rows each batch will take that takes some, asked for as they are wanted
    :param start: rows that were had before
    """

    def __init__(self, loader: RowLoader, pass_number: int, counts: Iterator[int], start: int = 0) -> None:
        self._name = loader.name
        self._parts = _parts(loader, pass_number, counts, start)

    def take(self, count: int) -> Iterator[Batch]:
        """Yield the rows of the next batch, in as few parts as may be.

        :raise DataError: if the loader has fewer than it says
        """
        while count > 0:
            part = next(self._parts, None)
            if part is None:
                raise DataError(f"loader {self._name!r} ended before all of its rows were read")
            count -= part.count() or 0
            yield part


def _parts(loader: RowLoader, pass_number: int, counts: Iterator[int], start: int) -> Iterator[Batch]:
    # A function on its own, as in the walk of whole batches: what refers to itself would leave the loader open.
    length = loader.num_samples
    assert length
    for number, ranges in groupby(_ranges(counts, start, length), key=itemgetter(0)):
        yield from loader.parts((pass_number, number) if number else pass_number, map(itemgetter(1), ranges))


def _ranges(counts: Iterator[int], start: int, length: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """Yield the number of the round and the range in it for every part."""
    for count in counts:
        stop = start + count
        while start < stop:
            number, first = divmod(start, length)
            found = min(stop - start, length - first)
            yield number, (first, first + found)
            start += found
