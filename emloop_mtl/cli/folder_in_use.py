"""Whether a process trains in a folder."""

from __future__ import annotations

import fcntl
import os
from errno import EAGAIN, EWOULDBLOCK
from pathlib import Path

LOCKED = (EAGAIN, EWOULDBLOCK)
"""How a file system answers where another process holds a lock."""


def is_in_use(folder: Path) -> bool:
    """Whether a process trains in a folder; False where the file system has no locks, or there is no such folder.

    The lock that finds that out is gone at once. Whoever begins to train in this very moment tries again.
    """
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in LOCKED
    finally:
        os.close(handle)
    return False
