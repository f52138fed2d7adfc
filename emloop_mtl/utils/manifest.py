"""A list of the files in a folder that shows any change of one of them, or of itself."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from .files import sha256_of, write_atomically

MAX_BYTES = 2**26
"""No manifest is larger: it lists two files and the tied tensors. What is, would be read into memory as a whole."""


def write_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    """Write a manifest as strict JSON, with a sum of its own.

    :param manifest: has ``format`` and ``files``: name -> ``{size, sha256}``
    :raise OSError: if it cannot be written
    """
    write_atomically(path, _sealed(manifest))


def read_manifest(path: Path, known_format: int, files: Collection[str]) -> dict[str, Any]:
    """Read a manifest and verify it, not yet the files that it lists.

    :param known_format: the only format that can be read
    :param files: exactly the names that it has to list, so that none can lead out of the folder
    :raise CheckpointError: if it was damaged or changed, or is of another format
    :raise OSError: if it cannot be read
    :raise ValueError: if it is no JSON
    """
    found_file = path.lstat()
    if not stat.S_ISREG(found_file.st_mode):  # a pipe would be waited for, and a link may lead anywhere
        raise CheckpointError("is no regular file")
    if found_file.st_size > MAX_BYTES:
        raise CheckpointError(f"has {found_file.st_size} bytes, too many for the manifest of a checkpoint")
    text = path.read_bytes().decode()
    manifest = json.loads(text)
    if not isinstance(manifest, dict):
        raise CheckpointError("is no manifest of a checkpoint")
    found = manifest.get("format")
    if found != known_format:
        raise CheckpointError(f"has format {found!r}, but this version of emloop_mtl reads format {known_format} only")
    manifest.pop("sha256", None)
    if _sealed(manifest) != text:
        raise CheckpointError("was damaged or changed after it was written: its sum differs")
    listed = manifest.get("files", {})
    for name in listed:
        if name not in files:
            raise CheckpointError(f"lists {name!r}, which is no file of a checkpoint")
    for name in files:
        if name not in listed:
            raise CheckpointError(f"does not list {name!r}")
    return manifest


def verify_file(path: Path, size: int, sha256: str) -> None:
    """Check that a file is the one that a manifest lists.

    :raise CheckpointError: if its size or sum differs, or if it is a link or no file at all
    :raise OSError: if it cannot be read
    """
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise CheckpointError("is no regular file")
    if found.st_size != size:
        raise CheckpointError(f"has {found.st_size} bytes instead of {size}: it was cut or changed")
    if sha256_of(path) != sha256:
        raise CheckpointError("was damaged or changed after it was written: its sum differs")


def _sealed(manifest: Mapping[str, Any]) -> str:
    """Return the one text of a manifest: any other, were it by a space, is told apart when it is read."""
    body = json.dumps(manifest, indent=2, sort_keys=True, allow_nan=False)
    seal = hashlib.sha256(body.encode()).hexdigest()
    return json.dumps({**manifest, "sha256": seal}, indent=2, sort_keys=True, allow_nan=False) + "\n"
