"""Reading in other processes."""

import multiprocessing
import signal
import threading
import time
from collections.abc import Generator
from multiprocessing.process import BaseProcess
from types import FrameType

import pytest
from torch.utils.data import Dataset

from emloop_mtl.data.read_ahead import ReadAhead
from emloop_mtl.data.worker_batches import worker_batches


class Forked(Dataset[str]):
    """Says which thread of the main process a process was forked in."""

    def __getitem__(self, number: int) -> str:
        return threading.current_thread().name


def test_a_thread_that_reads_ahead_has_processes_started_where_nothing_can_hold_a_lock() -> None:
    def read() -> Generator[str, None, None]:
        for _ in range(2):
            yield from worker_batches(Forked(), 1, range(2))

    assert list(ReadAhead(read(), 2, "reader")) == [threading.current_thread().name] * 4


class Hangs(Dataset[int]):
    """Has a second number that never comes."""

    def __getitem__(self, number: int) -> int:
        time.sleep(3600 * number)
        return number


class Terminated(BaseException):
    """What a command raises for a SIGTERM."""


@pytest.mark.parametrize("kind", [KeyboardInterrupt, Terminated])
def test_processes_that_hang_are_killed_where_a_signal_ends_the_wait(kind: type[BaseException]) -> None:
    workers: list[BaseProcess] = []

    def end(number: int, frame: FrameType | None) -> None:
        workers.extend(multiprocessing.active_children())
        raise kind

    before = signal.signal(signal.SIGALRM, end)
    batches = worker_batches(Hangs(), 2, range(3))
    try:
        assert next(batches) == 0
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(kind):
            next(batches)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert [worker.exitcode for worker in workers] == [-signal.SIGKILL] * 2


def test_processes_of_which_nobody_wants_more_end_by_themselves() -> None:
    batches = worker_batches(Forked(), 2, range(100))
    next(batches)
    workers = multiprocessing.active_children()
    batches.close()
    assert [worker.exitcode for worker in workers] == [0, 0]
