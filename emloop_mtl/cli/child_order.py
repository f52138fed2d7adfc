"""What a process of the command is to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ChildOrder:
    """What a process of the command is to do.

    :param name: tells it from the others
    :param words: what stands behind ``emloop-mtl``
    :param log: the file that gets what it says
    """

    name: str
    words: tuple[str, ...]
    log: Path
