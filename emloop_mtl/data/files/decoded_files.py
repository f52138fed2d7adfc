"""Where files are kept that had to be decoded before they could be mapped."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from time import time
from typing import Any

from ...errors import ConfigError, DataError

NOTE = "columns.json"
"""What is written last of a copy."""

LEFT = 24 * 60 * 60
"""Seconds after which a copy without that is one that nobody writes any more."""

LOCKS = 2
"""Digits by which locks are told apart: few of them, since none can be removed again."""

VERSION = 1
"""Of what is kept; other versions are not looked at."""


class DecodedFiles:
    """A folder of this user below the system's folder for temporary files, with one copy per file and way to read it.

    It is used again as long as the file has its size and time, and replaced when it has not. Processes that want the
    same wait for each other. Copies of files that are not there any more are removed where a new one is made.
    """

    def __init__(self) -> None:
        self.path = Path(tempfile.gettempdir()) / f"emloop_mtl-{os.getuid()}"

    def get(self, source: Path, settings: Mapping[str, Any], decode: Callable[[Path], Any]) -> tuple[Path, Any]:
        """Return the folder of a file's copy and what is noted of it; made by ``decode`` unless it is there.

        :param source: the file
        :param settings: how it is read
        :param decode: writes the copy into a folder and returns what to note
        :raise ConfigError: if there is no place for it
        """
        before = _stamp(source)
        what = json.dumps([VERSION, str(source.resolve()), settings], sort_keys=True)
        group = hashlib.sha256(what.encode()).hexdigest()[:24]
        target = self.path / f"{group}-{before}"
        try:
            self._make()
            with self._alone(group):
                if not (target / NOTE).is_file():
                    self._remove_old(group)
                    self._write(target, source, decode)
                    if _stamp(source) != before:
                        shutil.rmtree(target, ignore_errors=True)
                        raise DataError(f"{source}: has changed while it was read")
                return target, _noted(target)["columns"]
        except OSError as error:
            if error.filename is not None and Path(os.fsdecode(error.filename)) == source:
                raise
            text = f"{source}: cannot be decoded into {self.path}: {error.strerror or error}"
            raise ConfigError(f"{text}; the environment variable TMPDIR names another place") from error

    def _make(self) -> None:
        with suppress(FileExistsError):
            self.path.mkdir(mode=0o700, parents=True)
        found = self.path.lstat()
        if found.st_uid != os.getuid() or not self.path.is_dir() or self.path.is_symlink() or found.st_mode & 0o077:
            text = f"{self.path} is not a folder that only this user can use; remove it"
            raise ConfigError(f"{text}, or set the environment variable TMPDIR to another place")

    @contextmanager
    def _alone(self, group: str) -> Iterator[None]:
        with (self.path / f"{group[:LOCKS]}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _remove_old(self, group: str) -> None:
        """Remove what nobody will ask for, of this file and of others."""
        for old in self.path.glob(f"{group}-*"):
            shutil.rmtree(old, ignore_errors=True)
        for copy in self.path.iterdir():
            with suppress(OSError, ValueError, KeyError):
                is_left = time() - copy.stat().st_mtime > LEFT and not (copy / NOTE).exists()
                if copy.is_dir() and (is_left or not Path(_noted(copy)["source"]).exists()):
                    shutil.rmtree(copy, ignore_errors=True)

    def _write(self, target: Path, source: Path, decode: Callable[[Path], Any]) -> None:
        """Write a copy that is there as a whole or not at all."""
        target.mkdir(mode=0o700)
        try:
            note = json.dumps({"source": str(source.resolve()), "columns": decode(target)})
            temporary = target / f"{NOTE}.tmp"
            temporary.write_text(note, encoding="utf-8")
            temporary.rename(target / NOTE)
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise


def _noted(copy: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((copy / NOTE).read_text(encoding="utf-8"))
    return found


def _stamp(path: Path) -> str:
    found = path.stat()
    return f"{found.st_size:x}-{found.st_mtime_ns:x}-{found.st_ino:x}"
