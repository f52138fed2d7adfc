"""Finding out whether processes that read are worth it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from statistics import median
from time import perf_counter
from typing import Any

from .worker_cost import WorkerCost

log = logging.getLogger(__name__)

FEW = 5
"""How many batches are timed; the first one, which may open files, does not count if there are others."""

SHORT = 1.0
"""Seconds of reading in a round that are not worth a look."""

MOST_WORKERS = 8
"""More of them are seldom of use, and each takes memory."""


class AutoWorkers:
    """Decides once how many processes read the batches of a loader.

    :param name: name of the loader, for the log
    :param most: how many processes there may be at most
    """

    def __init__(self, name: str, most: int = MOST_WORKERS) -> None:
        self.number: int | None = None
        """How many processes shall read, None until that is known."""
        self._name = name
        self._most = most
        self._seconds: list[float] = []
        self._last: Mapping[str, Any] = {}

    def timed(self, batches: Iterator[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        """Yield the batches, timing the first few of them."""
        while len(self._seconds) < FEW:
            began = perf_counter()
            batch = next(batches, None)
            if batch is None:
                return
            self._seconds.append(perf_counter() - began)
            self._last = batch
            yield batch
        yield from batches

    def decide(self, dataset: object, length: int | None) -> int:
        """Return how many processes shall read, and say so in the log; 0 if no batch was timed.

        :param dataset: what they would get
        :param length: batches of a round, None if that is not known
        """
        if self.number is None and self._seconds:
            seconds = median(self._seconds[1:] or self._seconds)
            self.number, why = self._choose(seconds, dataset, length)
            self._last = {}
            text = "loader %r: num_workers auto is %i, a batch takes %.3g ms to read here%s"
            log.info(text, self._name, self.number, 1000 * seconds, why)
        return self.number or 0

    def never(self, why: str) -> None:
        """Let no other process read, and say in the log why."""
        self.number = 0
        log.info("loader %r: num_workers auto is 0, %s", self._name, why)

    def _choose(self, seconds: float, dataset: object, length: int | None) -> tuple[int, str]:
        cores = usable_cores()
        # One is left to what happens here.
        if cores == 1:
            return 0, ", and there is one core only"
        if length is not None and seconds * length < SHORT:
            return 0, f", a round of them {seconds * length:.2g} s"
        try:
            cost = WorkerCost.measure(dataset, self._last)
        except Exception as error:  # whatever keeps processes from reading, it is no reason to fail
            return 0, f", and no other process can do it: {' '.join(str(error).split())}"
        number = cost.worthwhile(seconds, length, min(cores - 1, self._most))
        why = f", {1000 * cost.transfer:.3g} ms to come from a process that takes {cost.start:.2g} s to start"
        return number, f"{why}; {cores} cores"


def usable_cores() -> int:
    """Return how many cores there are for each process of this training."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
