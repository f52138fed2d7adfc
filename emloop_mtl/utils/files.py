"""Files that are either there as a whole or not at all, also after a crash or a power failure."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

FOLDER_SYNC_REFUSED = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES})
"""How file systems without it (some network and FUSE mounts) answer when asked to flush a folder."""


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 sum of a file in hexadecimal digits.

    :raise OSError: if it cannot be read
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_file(path: str | os.PathLike[str]) -> None:
    """Wait until the content of a file is on disk."""
    with Path(path).open("rb") as file:
        os.fsync(file.fileno())


def sync_later(handle: int, name: str, path: str | os.PathLike[str]) -> Callable[[], None]:
    """Return what waits until all that is in an open file by now is on disk, even if it is closed before that.

    :param handle: number of the open file
    :param name: who writes it, for errors
    :param path: the file, for errors
    """
    own = os.dup(handle)

    def sync() -> None:
        try:
            os.fsync(own)
        except OSError as error:
            raise OSError(error.errno, f"{name}: {error.strerror}", str(path)) from error
        finally:
            os.close(own)

    return sync


def sync_folder(path: str | os.PathLike[str]) -> None:
    """Wait until the entries of a folder, new names and renamings, are on disk."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in FOLDER_SYNC_REFUSED:
            raise
    finally:
        os.close(handle)


def make_folder(path: str | os.PathLike[str]) -> None:
    """Make a folder and those above it where they are missing, for good.

    :raise OSError: if one cannot be made, or if there is something else of that name
    """
    path = Path(path)
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync_folder(path.parent)


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, or a copy where the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        sync_file(target)


def write_atomically(path: str | os.PathLike[str], content: bytes | str) -> None:
    """Write a file so that at any moment either its old or its new content is there, never a part.

    :param path: the file, in a folder that exists
    :param content: what it shall hold; text is written as UTF-8
    :raise OSError: if it cannot be written; the old file is as it was and nothing is left behind
    """
    path = Path(path)
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".tmp-{path.name}-{os.getpid()}-{os.urandom(4).hex()}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)
