"""Where the rows of a command go."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from ..errors import ConfigError, EmloopError
from ..utils.files import sync_folder
from .reporting import SIGNAL_BASE


class RowSink:
    """Stdout, or a file that is there as a whole or not at all.

    Entered, it can be written to; left without an error, the file gets its name. A pipe or a device is written
    directly.

    :param path: the file; None for stdout
    :raise ConfigError: if the file cannot be written
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._target: Path | None = None
        """The file itself, where ``path`` may be a link to it."""
        self._partial: Path | None = None
        self._file: BinaryIO | None = None

    @property
    def leaves_stderr(self) -> bool:
        """Whether stderr can show how it goes: not where the rows appear on the same terminal."""
        return self.path is not None or sys.stdout is None or not sys.stdout.isatty()

    def __enter__(self) -> RowSink:
        if self.path is None:
            if sys.stdout is None:
                raise ConfigError("stdout is closed; give --output a file")
            self._file = sys.stdout.buffer
            return self
        try:
            self._target = self.path.resolve()
            if self._target.is_dir():
                raise IsADirectoryError(0, "is a folder")
            if self._target.exists() and not self._target.is_file():
                self._file = self._target.open("wb")
            else:
                self._partial = self._target.with_name(f".{self._target.name}.{os.getpid()}.partial")
                self._file = self._partial.open("wb")
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be written: {error.strerror or error}") from error
        return self

    def write(self, data: bytes) -> None:
        """Write some bytes, so that a reader finds them when this returns.

        :raise SystemExit: if nobody reads stdout any more, as a program does that SIGPIPE ends
        :raise EmloopError: if they cannot be written
        """
        assert self._file is not None
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                if self.path is None:
                    # Python writes what is left when it ends, and would end with a code of its own if that failed.
                    nowhere = os.open(os.devnull, os.O_WRONLY)
                    os.dup2(nowhere, self._file.fileno())
                    os.close(nowhere)
                raise SystemExit(SIGNAL_BASE + signal.SIGPIPE) from error
            raise EmloopError(f"{self.path or 'stdout'}: cannot be written: {error.strerror}") from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        file, self._file = self._file, None
        assert file is not None
        if self.path is None:
            return
        if error is not None:
            with suppress(OSError):
                file.close()
            if self._partial is not None:
                self._partial.unlink(missing_ok=True)
            return
        if self._partial is None:
            file.close()
            return
        assert self._target is not None
        try:
            os.fsync(file.fileno())
            file.close()
            self._partial.replace(self._target)
        except OSError as failure:
            self._partial.unlink(missing_ok=True)
            raise EmloopError(f"{self.path}: cannot be written: {failure.strerror}") from failure
        sync_folder(self._target.parent)
