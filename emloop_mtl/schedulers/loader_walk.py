"""The way of a scheduler through one loader."""

from __future__ import annotations

from collections.abc import Iterator
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
        self._round = 0
        self._taken = 0
        self._batches: Iterator[Batch] | None = None

    def skip(self) -> bool:
        """Leave out one batch and tell whether there was one."""
        if self._length is None:
            return self.take() is not None
        assert self._batches is None, "batches are skipped before the first one is taken"
        if self._taken == self._length:
            self._start_over()
        self._taken += 1
        return True

    def take(self) -> Batch | None:
        """Return the next batch, None if as many as there are were asked for and no more are there.

        :raise DataError: if the loader has fewer batches than it says, or none at all where some are asked for
        """
        while True:
            if self._taken == self._length:
                self._start_over()
            if self._batches is None:
                number = (self._pass_number, self._round) if self._round else self._pass_number
                self._batches = self._loader.batches(number, self._taken)
            batch = next(self._batches, None)
            if batch is not None:
                self._taken += 1
                return batch
            if self._length is not None:
                raise DataError(f"loader {self._loader.name!r} ended after {self._taken} of {self._length} batches")
            if self._asked is None:
                return None
            if self._taken == 0:
                raise DataError(f"loader {self._loader.name!r} is empty, but {self._asked} batches are asked of it")
            self._start_over()

    def _start_over(self) -> None:
        self._round += 1
        self._taken = 0
        self._batches = None
