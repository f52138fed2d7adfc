"""What a run has left in its folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Self

from ..checkpoint import Checkpoint, list_checkpoints, newest_checkpoint
from ..constants import CHECKPOINT_FOLDER, CONFIG_FILE, LOG_FILE, RUN_FILE
from ..errors import ConfigError, nearest
from ..utils.cleared import Cleared
from ..utils.shown import printable
from .source_folder import recorded_folder

PREFERRED = ("best", "latest")
"""Whose weights are taken: the first of these that is there."""


class RecordedRun:
    """The folder of a run, as far as it is read: its config, where that came from, and its checkpoints.

    :param path: the folder
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def existing(cls, path: Path) -> Self:
        """Return the folder of a run that was begun before.

        :raise ConfigError: if it is none
        """
        if not path.is_dir():
            raise ConfigError(f"{path}: {'is a file, not the folder of a run' if path.exists() else 'no such folder'}")
        if not (path / CONFIG_FILE).is_file():
            raise ConfigError(f"{path}: is not the folder of a run: it has no {CONFIG_FILE}{_run_below(path)}")
        return cls(path)

    def check_links(self, otherwise: str = "--trust follows it") -> None:
        """Refuse a folder whose links lead out of it, where a run would read, write or remove what is not its own.

        :param otherwise: what can be done about it
        :raise ConfigError: naming the link
        """
        root = self.path.resolve()
        for folder, folders, files in os.walk(root):
            for name in (*folders, *files):
                path = Path(folder, name)
                if path.is_symlink() and not path.resolve().is_relative_to(root):
                    shown = self.path / path.relative_to(root)
                    raise ConfigError(f"{shown}: is a link that leads out of the run folder; {otherwise}")

    @property
    def config(self) -> Path:
        """The config with all overrides applied."""
        return self.path / CONFIG_FILE

    @property
    def log(self) -> Path:
        """What the run told."""
        return self.path / LOG_FILE

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints are kept."""
        return self.path / CHECKPOINT_FOLDER

    @property
    def source_folder(self) -> Path | None:
        """The folder that the run's own modules came from, None if it is not there any more."""
        record = self.path / RUN_FILE
        return recorded_folder(record) if record.is_file() else None

    def choose_checkpoint(self, tag: str | None = None) -> Checkpoint:
        """Return the checkpoint whose weights are taken.

        :param tag: its tag; None for the best if there is one, else the latest
        :raise ConfigError: if there is none of this tag
        :raise CheckpointError: if there is none at all, or none can be read
        """
        if tag is None:
            tag = next((tag for tag in PREFERRED if list_checkpoints(self.checkpoints, tag)), None)
        elif not list_checkpoints(self.checkpoints, tag):
            tags = {path.name.rpartition("-")[0] for path in list_checkpoints(self.checkpoints)}
            reason = Cleared.reason(self.checkpoints) or nearest(tag, tags)
            raise ConfigError(f"{self.path}: has no checkpoint {tag!r}{reason}")
        return newest_checkpoint(self.checkpoints, tag)

    def _record(self) -> dict[str, Any]:
        from .load import load_config

        record = self.path / RUN_FILE
        return load_config(record).data if record.is_file() else {}


def _run_below(path: Path) -> str:
    """Return the end of an error text that names the newest run right below a folder; "" if there is none."""
    try:
        runs = [entry for entry in path.iterdir() if (entry / RUN_FILE).is_file()]
        newest = max(runs, key=lambda run: (run / RUN_FILE).stat().st_mtime_ns, default=None)
    except OSError:  # it cannot be read, or somebody removes runs there
        return ""
    return "" if newest is None else f"; {printable(newest)} is one"
