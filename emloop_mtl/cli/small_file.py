"""Reading files that a stranger may have put there."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def read_small(path: Path, most: int) -> bytes | None:
    """Return the content of a file; None if there is none.

    Nothing but a regular file is opened: a pipe would be waited for, and a link may lead anywhere.

    :param most: how many bytes it may have
    :raise ValueError: if it is something else, has more, or cannot be read
    """
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise ValueError("is no regular file")
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            content = file.read(most + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror or error}") from error
    if len(content) > most:
        raise ValueError(f"is longer than {most} bytes")
    return content
