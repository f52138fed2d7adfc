"""What checkpoints and their files are called."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

FORMAT = 1
MANIFEST_FILE = "manifest.json"
MODEL_FILE = "model.safetensors"
STATE_FILE = "state.pt"

TAG = re.compile(r"\w[\w.+=-]*")
FOLDER_NAME = re.compile(rf"(?P<tag>{TAG.pattern})-(?P<sequence>\d{{8,}})")


def list_checkpoints(folder: str | Path, tag: str | None = None) -> list[Path]:
    """Return the checkpoints in ``folder``, newest first, without looking into them; empty if there is no folder.

    :param tag: only those saved for this
    """
    found = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for path in Path(folder).iterdir():
            match = FOLDER_NAME.fullmatch(path.name)
            if match and path.is_dir() and tag in (None, match["tag"]):
                found.append((int(match["sequence"]), path))
    return [path for _, path in sorted(found, reverse=True)]


def tag_of(path: Path) -> str:
    """Return what a checkpoint was saved for by the name of its folder."""
    return path.name.rpartition("-")[0]


def sequence_of(path: Path) -> int:
    """Return the number of a checkpoint among those of its run by the name of its folder, 0 if it is none."""
    match = FOLDER_NAME.fullmatch(path.name)
    return int(match["sequence"]) if match else 0
