"""Reading in other processes."""

import threading
from collections.abc import Generator

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
