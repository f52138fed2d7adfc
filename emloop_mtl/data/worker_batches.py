"""Reading in other processes."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from traceback import clear_frames
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from ..errors import DataError
from .failed_read import FailedRead
from .read_ahead import in_consumer

GRACE = 10
"""Seconds that a worker may take to end, by itself or after a first SIGTERM, if the main process does not end it."""

LONGEST_FOLDER = 107 - len("/pymp-12345678/listener-12345678")
"""Bytes that the path of the folder for temporary files may have: sockets are made there, with paths of 107 at most."""


def worker_batches(
    dataset: Dataset[Any],
    num_workers: int,
    numbers: Iterable[Any] | None = None,
    begin: Callable[[int], None] | None = None,
) -> Generator[Any, None, None]:
    """Yield the batches of a dataset, made by processes that end with this walk, however it ends.

    :param dataset: makes a batch of each number, or yields batches; a ``FailedRead`` among them is raised here
    :param num_workers: how many processes
    :param numbers: of the batches to make, or whatever tells which; None for a dataset that yields them
    :param begin: called in every process with its number
    :raise DataError: if a process has died; where a signal ends the wait for a batch, all of them are killed
    """
    _check_temporary_folder()
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=numbers,
        num_workers=num_workers,
        collate_fn=_as_it_is,
        generator=torch.Generator(),
        worker_init_fn=partial(_begin, begin),
    )
    batches = in_consumer(partial(_begin_reading, loader))
    workers: list[BaseProcess] = batches._workers  # type: ignore[attr-defined] # torch tells them nowhere else
    batch = None
    try:
        for batch in batches:
            if isinstance(batch, FailedRead):
                batch.reraise()
            yield batch
    except GeneratorExit:  # nobody wants more
        raise
    except Exception as error:
        dead = None if isinstance(batch, FailedRead) else _dead(workers, error)
        # An error of a worker and the frames that torch raises it in hold each other, and with them the processes,
        # whose end would then wait for the garbage collector, and that for them; so would this frame.
        clear_frames(error.__traceback__)
        del batches, workers, batch
        if dead is not None:
            text = f"a process that reads has ended: {dead}; num_workers 0 of the loader reads in the main process"
            raise DataError(text) from error
        raise
    except BaseException:  # a signal, where torch would wait 5 s for each one that hangs
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.join()
        raise


def _begin_reading(loader: DataLoader[Any]) -> Iterator[Any]:
    """Start the processes.

    Torch has a signal handler raise an error as soon as one of them dies, whatever the main process does: it may be
    amidst a step, or be saving. Without it the error comes where the batch of that process is waited for.
    """
    if threading.current_thread() is not threading.main_thread():
        return iter(loader)
    before = signal.getsignal(signal.SIGCHLD)
    try:
        return iter(loader)
    finally:
        if before is not None:
            signal.signal(signal.SIGCHLD, before)


def _check_temporary_folder() -> None:
    """Look beforehand whether processes can hand over what they have read; each batch that they cannot would be lost.

    :raise DataError: if the path of the folder for temporary files is too long
    """
    folder = tempfile.gettempdir()
    if len(os.fsencode(folder)) > LONGEST_FOLDER:
        text = f"processes that read need a folder for temporary files whose path has at most {LONGEST_FOLDER} bytes"
        raise DataError(
            f"{text}, not {folder!r}; set the environment variable TMPDIR, or num_workers of the loader to 0"
        )


def _dead(workers: list[BaseProcess], error: Exception) -> str | None:
    """Tell how a process has ended that keeps batches from coming, None if none has."""
    is_cut_off = isinstance(error, (OSError, EOFError))  # what it was sending, which is so before it has ended
    if is_cut_off:
        ending = wait([worker.sentinel for worker in workers], timeout=GRACE)
        for worker in workers:
            if worker.sentinel in ending:
                worker.join(GRACE)
    # One that has read its part of an iterable dataset has ended with 0.
    ended = [worker for worker in workers if worker.exitcode or (is_cut_off and worker.exitcode == 0)]
    return _describe_end(ended[0]) if ended else None


def _describe_end(worker: BaseProcess) -> str:
    code = worker.exitcode or 0
    if code == -signal.SIGKILL:
        return "killed, as the system does when memory runs out"
    return f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"


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
