"""Which process works on which trial of a study."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EACCES
from pathlib import Path
from types import TracebackType

from .folder_in_use import LOCKED


class TrialClaims:
    """Locks in one file: the first byte while a process chooses what to do next, one more for each trial.

    A process that dies lets go by itself. Where the file system has no locks, nobody is kept out.

    :param path: the file, made if it is not there
    """

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)

    @contextmanager
    def choosing(self) -> Iterator[None]:
        """Wait until no other process chooses, and keep others from it."""
        locked = self._lock(0, wait=True)
        try:
            yield
        finally:
            if locked:
                fcntl.lockf(self._handle, fcntl.LOCK_UN, 1, 0)

    def take(self, number: int) -> bool:
        """Return whether a trial is ours now, and not another process's."""
        return self._lock(number + 1)

    def let_go(self, number: int) -> None:
        """Let others have a trial."""
        fcntl.lockf(self._handle, fcntl.LOCK_UN, 1, number + 1)

    def _lock(self, place: int, wait: bool = False) -> bool:
        try:
            fcntl.lockf(self._handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, place)
        except OSError as error:
            return error.errno not in (*LOCKED, EACCES)
        return True

    def close(self) -> None:
        """Let go of everything."""
        os.close(self._handle)

    def __enter__(self) -> TrialClaims:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
