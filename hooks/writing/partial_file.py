"""A file that has its name only when it is whole."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, TypeAlias

from emloop_mtl.utils.files import make_folder, sync_folder, sync_later

Mark: TypeAlias = tuple[int, int]
"""Where a file ends: how many bytes there are, and the CRC-32 of these."""


class PartialFile:
    """A file that is written under another name and gets its own when it is whole; an older one is replaced.

    :param owner: name of the hook, for errors
    :param path: what it will be called
    """

    def __init__(self, owner: str, path: Path) -> None:
        self.path = path
        """What it will be called."""
        self.written = path.with_name(f".{path.name}.partial")
        """What it is called until then."""
        self.mark: Mark = 0, 0
        """Where it ends."""
        self.is_kept = False
        """Whether a checkpoint speaks of it."""
        self._owner = owner
        self._file: BinaryIO | None = None

    def begin(self) -> None:
        """Open it, with nothing in it.

        :raise OSError: if it cannot be written
        """
        make_folder(self.path.parent)
        if self.path.is_dir():
            raise IsADirectoryError(0, "is a folder", str(self.path))
        self._file = self.written.open("wb")

    def go_on(self, mark: Mark) -> bool:
        """Open it where it ended once, also if it has become whole since; return whether that is still there.

        :raise OSError: if it cannot be written
        """
        end, checksum = mark
        for candidate in (self.written, self.path):
            start = _beginning(candidate, end)
            if start is None or zlib.crc32(start) != checksum:
                continue
            self._file = self.written.open("r+b" if candidate == self.written else "w+b")
            if candidate == self.path:
                self._file.write(start)
            self._file.seek(end)
            self._file.truncate()
            self.mark, self.is_kept = mark, True
            return True
        return False

    def write(self, data: bytes) -> None:
        """Write at the end.

        :raise OSError: if that fails
        """
        assert self._file is not None
        self._file.write(data)
        end, checksum = self.mark
        self.mark = end + len(data), zlib.crc32(data, checksum)

    def sync_later(self) -> Callable[[], None]:
        """Hand all over to the system, and return what waits until it is on disk."""
        assert self._file is not None
        self._file.flush()
        return sync_later(self._file.fileno(), self._owner, self.written)

    def finish(self) -> None:
        """Give the file its name, once all is on disk."""
        self.sync_later()()
        self.close()
        self.written.replace(self.path)
        sync_folder(self.path.parent)

    def close(self) -> None:
        """Close the file, and leave what there is of it."""
        if self._file is not None:
            with suppress(OSError):  # of a full disk, which has been told of
                self._file.close()
            self._file = None

    def give_up(self) -> None:
        """Close the file, and remove it unless a checkpoint speaks of it.

        :raise OSError: if it cannot be removed
        """
        self.close()
        if not self.is_kept:
            self.written.unlink(missing_ok=True)


def _beginning(path: Path, size: int) -> bytes | None:
    """Return the first bytes of a file, None if it is not there or shorter."""
    try:
        with path.open("rb") as file:
            data = file.read(size)
    except OSError:
        return None
    return data if len(data) == size else None
