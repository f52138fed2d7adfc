"""The way of a scheduler through one loader."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from ..errors import DataError

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
        self.take: Callable[[], Batch | None] = partial(next, self._batches(), None)
        """Returns the next batch, None if as many as there are were asked for and no more are there.

        It raises a ``DataError`` if the loader has fewer batches than it says, or none where some are asked for. It
        is called for every batch, hence no method.
        """

    def skip(self) -> bool:
        """Leave out one batch and tell whether there was one; of a known length, before the first one is taken."""
        if self._length is None:
            return self.take() is not None
        self._skipped += 1
        return True

    def _batches(self) -> Iterator[Batch]:
        length = self._length
        number, taken = divmod(self._skipped, length) if length else (0, 0)
        while True:
            for batch in self._loader.batches((self._pass_number, number) if number else self._pass_number, taken):
                taken += 1
                yield batch
                if taken == length:
                    break
            else:
                if length is not None:
                    raise DataError(f"loader {self._loader.name!r} ended after {taken} of {length} batches")
                if self._asked is None:
                    return
                if taken == 0:
                    raise DataError(f"loader {self._loader.name!r} is empty, but {self._asked} batches are asked of it")
            number, taken = number + 1, 0
