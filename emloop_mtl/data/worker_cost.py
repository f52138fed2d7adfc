"""What it costs that another process reads."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from time import perf_counter
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset

from .row_reader import as_it_is, leave_signals_to_parent

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
        """
        loader = DataLoader(
            _Echo(dataset, batch),
            batch_size=None,
            sampler=range(SENT),
            num_workers=1,
            collate_fn=as_it_is,
            generator=torch.Generator(),
            worker_init_fn=leave_signals_to_parent,
        )
        times = [perf_counter()]
        times += [perf_counter() for _ in loader]
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

    def __getitem__(self, number: int) -> Mapping[str, Any]:
        return self._batch
