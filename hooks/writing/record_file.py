"""A file that grows record by record."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from io import FileIO
from pathlib import Path

from emloop_mtl.errors import CheckpointError
from emloop_mtl.utils.files import sync_later


def size_of(path: Path) -> int:
    """Return the size of a file in bytes, 0 if there is none."""
    return path.stat().st_size if path.is_file() else 0


class RecordFile:
    """A file that records are appended to, each there for readers at once; a resumed training cuts it first.

    :param owner: name of the hook, for errors
    :param path: the file
    :param end: where the next record begins; what comes after is cut
    :raise CheckpointError: if the file ends before
    :raise OSError: if it cannot be written
    """

    def __init__(self, owner: str, path: Path, end: int) -> None:
        size = size_of(path)
        if size < end:
            raise CheckpointError(
                f"{owner}: {path} has {size} bytes, but had {end} when the checkpoint was written: "
                "it has been cut or removed; put it back to resume"
            )
        self.end = end
        """Where the next record begins."""
        self._is_torn = False
        """Whether a part of a record that could not be written stands at the end."""
        self._owner = owner
        self._path = path
        self._file = FileIO(path, "a")  # without a buffer, nothing is left to be written after an error
        if size > end:
            self._file.truncate(end)

    def append(self, records: bytes) -> None:
        """Write records at the end, all or, for the reader of a later state, none.

        :raise OSError: naming hook and file
        """
        rest = memoryview(records)
        try:
            if self._is_torn:
                self._file.truncate(self.end)
            self._is_torn = True
            while rest:
                rest = rest[self._file.write(rest) or 0 :]
            self._is_torn = False
        except OSError as error:
            with suppress(OSError):  # else the next record tries again
                self._file.truncate(self.end)
                self._is_torn = False
            raise OSError(error.errno, f"{self._owner}: {error.strerror}", str(self._path)) from error
        self.end += len(records)

    def sync(self) -> None:
        """Wait until all records are on disk."""
        self.sync_later()()

    def sync_later(self) -> Callable[[], None]:
        """Return what waits until all records that there are by now are on disk."""
        return sync_later(self._file.fileno(), self._owner, self._path)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
