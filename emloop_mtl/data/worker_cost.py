"""What it costs that another process reads."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from multiprocessing.reduction import ForkingPickler
from time import perf_counter
from typing import Any, NamedTuple

from torch.utils.data import Dataset

from ..errors import DataError
from .failed_read import FailedRead
from .worker_batches import worker_batches

GAIN = 2
"""How many times less a batch must cost here if others read it. Where it is little, they take cores from the model."""

SENT = 5
"""How many batches are sent to measure how long one takes."""


class WorkerCost(NamedTuple):
    """What a process that reads costs: seconds to start it, and for a batch to come from it."""

    start: float
    transfer: float

    @classmethod
    def measure(cls, dataset: object, batch: Mapping[str, Any]) -> WorkerCost:
        """Start a process that does nothing but send a batch.

        :param dataset: handed to the process, as it would be to one that reads
        :param batch: what it sends
        :raise DataError: if the batch cannot be sent
        :raise Exception: whatever keeps the process from being started
        """
        times = [perf_counter()]
        times += [perf_counter() for _ in worker_batches(_Echo(dataset, batch), 1, range(SENT))]
        return cls(times[1] - times[0], (times[-1] - times[1]) / (SENT - 1))

    def worthwhile(self, seconds: float, length: int | None, most: int) -> int:
        """Return how many processes keep the time low that a batch costs here; 0 where this process does as well.

        :param seconds: time to read a batch here
        :param length: batches of a round, for each of which processes are started; None if there are many
        :param most: how many there may be
        """
        there = self.transfer + (self.start / length if length else 0.0)
        if seconds < GAIN * there:
            return 0
        return min(most, ceil(seconds / max(self.transfer, 1e-9)))


class _Echo(Dataset[Any]):
    """Returns one batch again and again."""

    def __init__(self, dataset: object, batch: Mapping[str, Any]) -> None:
        self._dataset = dataset
        self._batch = batch
        self._can_be_sent = False

    def __getitem__(self, number: int) -> Mapping[str, Any] | FailedRead:
        if not self._can_be_sent:
            # Otherwise a thread of the process finds that out, whose error nobody hears of, waiting for the batch for
            # ever. To try it in the main process would move the batch, which may be in use there.
            try:
                ForkingPickler.dumps(self._batch)
            except Exception as error:
                return FailedRead(DataError(str(error)))
            self._can_be_sent = True
        return self._batch
