"""Two processes at one run."""

from __future__ import annotations

from pathlib import Path

from ..errors import ConfigError


class FolderInUseError(ConfigError):
    """Another process trains in the folder of a run; nothing is wrong with the run, and later it may be free.

    :param path: the folder
    """

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path}: another process is training in this folder")
