"""What is known of checkpoints that were removed when their training had finished."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..types import Position
from .checkpoint_names import FOLDER_NAME, sequence_of
from .files import write_atomically

CLEARED_FILE = "cleared.json"
"""Lies among the checkpoints from before the first of them is removed until a training writes another one."""

MOST = 2**24
"""Bytes of it that are read; a name for each checkpoint of a very long training."""


@dataclass(frozen=True)
class Cleared:
    """The end of a training whose checkpoint was removed.

    :param position: where the training had finished
    :param names: the checkpoints that were to be removed, the oldest first
    """

    position: Position
    names: list[str]

    @classmethod
    def read(cls, folder: str | Path) -> Cleared | None:
        """Return what is known of the checkpoints in a folder; None if none were removed, or nothing tells."""
        path = Path(folder, CLEARED_FILE)
        try:
            if path.is_symlink() or not path.is_file() or path.stat().st_size > MOST:
                return None
            record = json.loads(path.read_bytes())
            position = Position(**record["position"])
            names = list(record["removed"])
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return None
        if not all(type(number) is int and number >= 0 for number in position):
            return None
        # A name from elsewhere must not lead out of the folder.
        return cls(position, [name for name in names if isinstance(name, str) and FOLDER_NAME.fullmatch(name)])

    @staticmethod
    def write(folder: str | Path, position: Position, names: Sequence[str]) -> None:
        """Write down what is about to be removed.

        :raise OSError: if it cannot be written
        """
        record = {"position": position._asdict(), "removed": list(names)}
        write_atomically(Path(folder, CLEARED_FILE), json.dumps(record, indent=2) + "\n")

    @staticmethod
    def forget(folder: str | Path) -> None:
        """Forget it: a training goes on."""
        Path(folder, CLEARED_FILE).unlink(missing_ok=True)

    @staticmethod
    def reason(folder: str | Path) -> str:
        """Return how a message goes on that a checkpoint is not there: nothing where none were removed."""
        found = Cleared.read(folder)
        return "" if found is None else "; ClearCheckpoints has removed what was there when the training had finished"

    def is_end_gone(self, left: Sequence[Path]) -> bool:
        """Return whether none of the checkpoints that are left is of the end.

        :param left: the checkpoints that are there
        """
        return self.last > max((sequence_of(path) for path in left), default=0)

    @property
    def last(self) -> int:
        """The number of the newest checkpoint that was to be removed."""
        return max((sequence_of(Path(name)) for name in self.names), default=0)
