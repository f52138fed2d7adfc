"""The folder of one run."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ..config.recorded_run import RecordedRun
from ..constants import CHECKPOINT_FOLDER, CONFIG_FILE, LOG_FILE, RUN_FILE, TRACE_FILE
from ..errors import ConfigError
from .folder_in_use import LOCKED
from .folder_in_use_error import FolderInUseError

if TYPE_CHECKING:
    from ..config.config import Config

NOT_IN_NAMES = re.compile(r"[^\w.+-]+")

TEMPORARY = ".tmp-"
"""What the names begin with of files that are being written."""

NOTES = ("ended", "longer")
"""What ``RunFolder.note`` records."""

WAITS = (0.01, 0.05)
"""Seconds after which a lock is tried again: whoever only looks whether it is held, holds it for a moment."""

LONGEST_NAME = 50
"""Characters of a model's name in that of a folder: the system allows 255 bytes, and a character may take four."""

_HELD: set[int] = set()
"""Handles of the folders that this process trains in."""


def _let_go() -> None:
    for handle in _HELD:
        os.close(handle)
    _HELD.clear()


# Processes that read data outlive one that was killed for some seconds, and would keep its run from being resumed.
os.register_at_fork(after_in_child=_let_go)


def folder_name(name: str) -> str:
    """Return what a folder may be called that is called after a model."""
    return NOT_IN_NAMES.sub("-", name).lstrip(".")[:LONGEST_NAME] or "run"


class RunFolder(RecordedRun):
    """The folder of one run: its config, where that came from, its log, its checkpoints and what hooks write.

    :param path: the folder
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._made: list[Path] = []
        self._set_aside: Path | None = None

    @classmethod
    def new(cls, root: Path, name: str) -> RunFolder:
        """Make a folder below ``root`` that is called ``name`` with the date and time.

        :raise ConfigError: if it cannot be made
        """
        now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        stem = f"{folder_name(name)}_{now}"
        number = 0
        while True:
            folder = cls(root / (f"{stem}_{number}" if number else stem))
            if folder._make():
                return folder
            number += 1

    @classmethod
    def at(cls, path: Path, remove: bool, keep: Path) -> RunFolder:
        """Make the folder ``path``, or take it if it is empty.

        :param remove: put a run that lies there aside; it is removed for good by ``begin``
        :param keep: a file that must not be removed
        :raise ConfigError: if there is something else
        """
        folder = cls(path)
        if path.is_dir() and any(path.iterdir()):
            if not remove:
                raise ConfigError(f"{path}: is not empty; choose another --output-dir, or replace the run by --rm")
            folder._put_aside(keep)
        if not folder._make() and not path.is_dir():
            raise ConfigError(f"{path}: is a file, not a folder")
        return folder

    @classmethod
    def begun_or_new(cls, path: Path, may_begin: bool) -> RunFolder:
        """Return the folder of a run, or one that is made for a run to begin in.

        :param may_begin: whether there may be no run yet
        :raise ConfigError: if there is something else, or no run where there has to be one
        """
        folder = cls(path)
        if path.is_dir() and not folder.is_begun and not folder._is_bare():
            raise ConfigError(f"{path}: is not the folder of a run: it has no {CONFIG_FILE}, but other files")
        if not may_begin and not folder.is_begun:
            state = "has no run yet" if path.is_dir() else "no such folder"
            raise ConfigError(f"{path}: {state}; --config names the config of a training to begin there")
        if not folder._make() and not path.is_dir():
            raise ConfigError(f"{path}: is a file, not a folder")
        return folder

    @property
    def is_begun(self) -> bool:
        """Whether there is a config, which is written before anything else is done."""
        return self.config.is_file() and self.config.stat().st_size > 0

    def write_config(self, config: Config) -> None:
        """Write the config of the run."""
        from ..config.load import dump_config
        from ..utils.files import write_atomically

        write_atomically(self.config, dump_config(config))

    def write_record(self, config_path: Path) -> None:
        """Record where the config came from, since modules beside it are imported again when the run is resumed."""
        from ..config.source_folder import folder_of
        from ..config.yaml_text import write_yaml
        from ..utils.files import write_atomically

        source, folder = config_path.resolve(), folder_of(config_path).resolve()
        record = {"config": source.name, "source_folder": str(folder), "working_folder": str(Path.cwd())}
        write_atomically(self.path / RUN_FILE, write_yaml(record))

    def note(self, what: str, sequence: int) -> None:
        """Record what has become of the run, instead of what was recorded before.

        :param what: ``ended``, when a checkpoint was the end and nothing is left to be done, not even for the hooks;
            ``longer``, when the run goes on from a checkpoint with which it had ended
        :param sequence: the number of that checkpoint; 0 for a run without any
        """
        from ..config.yaml_text import write_yaml
        from ..utils.files import write_atomically

        record = {key: value for key, value in self._record().items() if key not in NOTES}
        write_atomically(self.path / RUN_FILE, write_yaml({**record, what: sequence}))

    def is_noted(self, what: str, sequence: int) -> bool:
        """Whether ``note`` was called with this last."""
        return self._record().get(what) == sequence

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training in the folder; a process that dies lets go by itself.

        :raise FolderInUseError: if another process does so
        """
        handle = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        _HELD.add(handle)
        try:
            self._lock(handle)
            if not self._is_still(handle):  # a run that could not begin was removed together with its folder
                raise FolderInUseError(self.path)
            yield
        finally:
            if handle in _HELD:  # else this is another process, which has let go already
                _HELD.remove(handle)
                os.close(handle)

    def begin(self) -> None:
        """Remove for good what was put aside: the new run is about to begin."""
        if self._set_aside is not None:
            shutil.rmtree(self._set_aside)
            self._set_aside = None

    def discard(self) -> None:
        """Undo the making of the folder; what was put aside comes back."""
        if self._made:
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            self.empty()
        for folder in reversed(self._made[:-1]):
            with suppress(OSError):  # somebody else has begun to use it
                folder.rmdir()
        if self._set_aside is not None:
            with suppress(OSError):
                self.path.rmdir()
            self._set_aside.rename(self.path)
            self._set_aside = None

    def empty(self, keep: tuple[str, ...] = ()) -> None:
        """Remove everything but ``keep`` from the folder."""
        for entry in self.path.iterdir():
            if entry.name in keep:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def clear_up(self) -> None:
        """Remove what a kill in the midst of writing a file has left."""
        for entry in self.path.glob(f"{TEMPORARY}*"):
            if entry.is_file() and not entry.is_symlink():
                entry.unlink()

    def check_restart(self) -> None:
        """Check, before what a run has left is removed, that it is a run.

        :raise ConfigError: if nothing says so but the name of a config
        """
        if not (self.path / RUN_FILE).is_file():
            raise ConfigError(f"{self.path}: is not the folder of a run: it has neither checkpoints nor {RUN_FILE}")

    def restart(self) -> None:
        """Remove what a run has left that was ended before its first checkpoint."""
        self.empty(keep=(CONFIG_FILE, RUN_FILE, LOG_FILE))

    def _lock(self, handle: int) -> None:
        for seconds in (*WAITS, None):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError as error:
                if error.errno not in LOCKED:
                    return  # a file system without locks: then nobody is kept out
                if seconds is None:
                    raise FolderInUseError(self.path) from error
            time.sleep(seconds)

    def _is_still(self, handle: int) -> bool:
        """Whether an open folder is the one that has the path."""
        try:
            return os.path.samestat(os.fstat(handle), self.path.stat())
        except FileNotFoundError:
            return False

    def _is_bare(self) -> bool:
        """Whether there is nothing but what a process leaves that is killed before its run has a config."""
        known = {LOG_FILE, RUN_FILE, CONFIG_FILE}
        return all(
            entry.is_file() and not entry.is_symlink() and (entry.name in known or entry.name.startswith(TEMPORARY))
            for entry in self.path.iterdir()
        )

    def _make(self) -> bool:
        """Make the folder and those above it; return False if there is something of its name."""
        missing = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self.path.mkdir()
            except FileExistsError:
                return False
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be made: {error.strerror or error}") from error
        self._made = missing[::-1]
        return True

    def _put_aside(self, keep: Path) -> None:
        path = self.path
        known = (RUN_FILE, TRACE_FILE, CHECKPOINT_FOLDER)
        looks_like_run = (path / CONFIG_FILE).is_file() and any((path / name).exists() for name in known)
        if path.is_symlink() or not looks_like_run:
            raise ConfigError(
                f"{path}: --rm removes runs only, and this is none: it must hold {CONFIG_FILE}, and {RUN_FILE}, "
                f"{TRACE_FILE} or {CHECKPOINT_FOLDER}"
            )
        resolved = path.resolve()
        for needed, what in ((keep.resolve(), "the config to train"), (Path.cwd().resolve(), "the working folder")):
            if needed.is_relative_to(resolved):
                raise ConfigError(f"{path}: --rm would remove {what} with it")
        aside = path.with_name(f".{path.name}-replaced-{os.getpid()}")
        with RunFolder(path).locked():
            path.rename(aside)
        self._set_aside = aside
