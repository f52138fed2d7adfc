"""Knowing files again."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

PARTS, PART = 64, 4096
"""How many parts of a file are looked at, and their bytes: enough to know it again, and quickly read."""


def sum_of(files: Iterable[Path]) -> str:
    """Return a sum of the sizes of files and of parts of them, all of a small one, spread evenly from end to end."""
    found = 0
    for path in files:
        size = path.stat().st_size
        found = zlib.crc32(str(size).encode(), found)
        with path.open("rb") as file:
            for start in np.linspace(0, max(0, size - PART), min(PARTS, -(-size // PART)), dtype=np.int64).tolist():
                file.seek(start)
                found = zlib.crc32(file.read(PART), found)
    return f"{found:08x}"
