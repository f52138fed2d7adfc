"""Writing a file and taking its sum in one go."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from pathlib import Path
from types import TracebackType

CHUNK = 2**24
"""Bytes that are written before the next look at whether to stop: some hundredths of a second."""


class HashingWriter:
    """A new file whose SHA-256 sum is taken while it is written, and which is on disk once it is closed.

    An error of ``write`` is kept and raised when the writer is closed, because torch's writer in C++ turns an
    exception from within ``write`` into an unrelated one; what is written after it is dropped.

    :param path: a file that does not exist yet
    :param stop: breaks the writing off once it is set
    :raise OSError: if the file exists or cannot be written
    :raise InterruptedError: if it was broken off
    """

    def __init__(self, path: Path, stop: threading.Event | None = None) -> None:
        self._stop = stop
        self._file = path.open("xb")
        self._sum = hashlib.sha256()
        self._error: BaseException | None = None
        self.size = 0

    @property
    def sha256(self) -> str:
        """The sum of all that was written, in hexadecimal digits."""
        return self._sum.hexdigest()

    def write(self, data: bytes | memoryview) -> int:
        """Append ``data`` and return its size in bytes."""
        whole = memoryview(data).cast("B")
        try:
            for start in range(0, whole.nbytes, CHUNK):
                if self._error is not None:
                    break
                if self._stop is not None and self._stop.is_set():
                    raise InterruptedError("broken off")
                self._file.write(whole[start : start + CHUNK])
                self._sum.update(whole[start : start + CHUNK])
        except BaseException as error:  # KeyboardInterrupt too: it would be lost in C++ as well
            self._error = error
        self.size += whole.nbytes
        return whole.nbytes

    def flush(self) -> None:
        """Do nothing: the file is flushed when it is closed."""

    def __enter__(self) -> HashingWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None and self._error is None:
                self._file.flush()
                os.fsync(self._file.fileno())
        finally:
            with contextlib.suppress(OSError):  # what could not be written before cannot be written now
                self._file.close()
        if self._error is not None:
            raise self._error
