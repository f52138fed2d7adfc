"""Temporary folders of which nothing is left for long, even where a command is killed."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir, mkdtemp

from .folder_in_use import LOCKED

PREFIX = "emloop-mtl_"


@contextmanager
def scratch_folder(what: str) -> Iterator[Path]:
    """Give a temporary folder and remove it in the end, and before that those of commands that were killed.

    It is locked while it is used, and a process that dies lets go by itself.

    :param what: what it is for, a part of its name
    """
    prefix = f"{PREFIX}{what}_"
    for path in Path(gettempdir()).glob(f"{prefix}*"):
        _remove_abandoned(path)
    folder, handle = _made(prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # what still writes there has been told to end
        os.close(handle)


def _made(prefix: str) -> tuple[Path, int]:
    """Return a new folder, and the handle by which it is locked."""
    while True:
        path = Path(mkdtemp(prefix=prefix))
        try:
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:  # another command has taken it for abandoned just now
            continue
        if _lock(handle) and path.exists():
            return path, handle
        os.close(handle)


def _remove_abandoned(path: Path) -> None:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:  # that of another user, or no longer there
        return
    try:
        if os.fstat(handle).st_uid == os.getuid() and _lock(handle, without=False):
            shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(handle)


def _lock(handle: int, without: bool = True) -> bool:
    """Lock a folder unless another process has; return ``without`` where the file system has no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return without and error.errno not in LOCKED
    return True
