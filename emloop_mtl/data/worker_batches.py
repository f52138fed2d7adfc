"""Reading in other processes."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from traceback import clear_frames
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from ..errors import EmloopError

GRACE = 10
"""Seconds that a worker lives on after a first SIGTERM, if the main process does not end it before."""


def worker_batches(
    dataset: Dataset[Any],
    num_workers: int,
    numbers: Iterable[int] | None = None,
    begin: Callable[[int], None] | None = None,
) -> Iterator[Any]:
    """Yield the batches of a dataset, made by processes that end with this walk, however it ends.

    :param dataset: makes a batch of a number, or yields batches; an ``EmloopError`` that it returns is raised here
    :param num_workers: how many processes
    :param numbers: of the batches to make; None for a dataset that yields them
    :param begin: called in every process with its number
    """
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=numbers,
        num_workers=num_workers,
        collate_fn=_as_it_is,
        generator=torch.Generator(),
        worker_init_fn=partial(_begin, begin),
    )
    try:
        for batch in loader:
            if isinstance(batch, EmloopError):
                raise batch
            yield batch
    except Exception as error:
        # An error of a worker and the frames that torch raises it in hold each other, and with them the processes,
        # whose end would then wait for the garbage collector, and that for them.
        clear_frames(error.__traceback__)
        raise


def _begin(begin: Callable[[int], None] | None, worker: int) -> None:
    _leave_signals_to_parent()
    if begin is not None:
        begin(worker)


def _leave_signals_to_parent() -> None:
    """Let this worker outlive a Ctrl-C or a SIGTERM to all processes of a run: the batch under way needs it."""

    def give_time(number: int, frame: object) -> None:
        # The main process sends a SIGTERM too, to a worker that hangs.
        signal.signal(number, signal.SIG_DFL)
        signal.alarm(GRACE)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, give_time)


def _as_it_is(batch: Any) -> Any:
    """Return ``batch``; a function of a module, because workers may have to pickle it."""
    return batch
