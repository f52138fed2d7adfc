"""The way of a scheduler through one loader."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import DataError
from ..utils.reading_again import ReadingAgain
from .row_turns import ENDLESS

if TYPE_CHECKING:
    from ..data.batch import Batch
    from .abstract_task_scheduler import Loader


class LoaderWalk:
    """The batches of one loader in one pass of a scheduler.

    A loader of which more batches are asked for than it has starts over, in an order of its own for each round.
    It is opened when its first batch is wanted, so batches that are skipped cost nothing where the length is known.

    :param loader: where the batches come from
    :param pass_number: number of the scheduler's pass
    :param asked: how many batches will be asked for; None for as many as there are
    """

    def __init__(self, loader: Loader, pass_number: int, asked: int | None) -> None:
        self._loader = loader
        self._pass_number = pass_number
        self._asked = asked
        self._length = loader.num_batches
        self._skipped = 0
        self._again: ReadingAgain | None = None
        self._batches: Iterator[Batch] | None = None

    def skip(self) -> bool:
        """Leave out one batch and tell whether there was one; of a known length, before the first one is taken."""
        if self._length is None:
            if self._again is None:
                self._again = ReadingAgain(f"loader {self._loader.name!r}", None)
            self._again.count()
            return next(self.batches(), None) is not None
        self._skipped += 1
        return True

    def batches(self) -> Iterator[Batch]:
        """Return the batches that were not skipped, as many as are asked for and more; each time the same iterator.

        It raises a ``DataError`` if the loader has fewer batches than it says, or none where some are asked for.
        """
        if self._batches is None:
            self._batches = _walk(self._loader, self._pass_number, self._asked, self._length, self._skipped)
        return self._batches


def _walk(loader: Loader, pass_number: int, asked: int | None, length: int | None, start: int) -> Iterator[Batch]:
    # A function on its own: what refers to itself would leave the loader open, and its processes, until Python looks
    # for such circles.
    number, taken = divmod(start, length) if length else (0, 0)
    while True:
        for batch in loader.batches((pass_number, number) if number else pass_number, taken):
            taken += 1
            yield batch
            if taken == length:
                break
        else:
            if length is not None:
                raise DataError(f"loader {loader.name!r} ended after {taken} of {length} batches")
            if asked is None:
                return
            if taken == 0:
                what = "batches" if asked == ENDLESS else f"{asked} batches"
                raise DataError(f"loader {loader.name!r} is empty, but {what} are asked of it")
        number, taken = number + 1, 0
