"""Whether there is room on a disk."""

from __future__ import annotations

import shutil
from pathlib import Path


def lack_of_room(folder: str | Path, needed: int) -> str | None:
    """Return what is wrong if ``needed`` bytes do not fit on the disk of a folder that may not be there yet."""
    path = Path(folder).absolute()
    while not path.exists():
        path = path.parent
    free = shutil.disk_usage(path).free
    if free >= needed:
        return None
    return f"{needed / 1e6:,.1f} MB, but the disk has {free / 1e6:,.1f} MB free; make room or set another output_dir"
