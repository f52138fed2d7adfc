"""The folder of a grid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..config.load import load_config
from ..config.yaml_text import write_yaml
from ..errors import ConfigError
from ..utils.checkpoint_names import list_checkpoints, sequence_of
from ..utils.files import write_atomically
from .combination import Combination
from .comparing import differing, flat_settings
from .grid import LOG_SUFFIX, Grid
from .run_folder import TEMPORARY, RunFolder

GRID_FILE = "grid.yaml"
"""Records what the grid is."""

SAID_FILE = "gridsearch.log"
"""All that the processes of a run have said, in its folder."""


class GridFolder:
    """The folder of a grid: what the grid is, and a run for each combination.

    :param path: the folder
    :param grid: what is to lie in it
    """

    def __init__(self, path: Path, grid: Grid) -> None:
        self.path = path
        self._grid = grid

    def check(self) -> None:
        """Check that the folder holds this grid, or nothing.

        :raise ConfigError: if it holds something else
        """
        try:
            if not self.path.is_dir():
                if self.path.exists() or self.path.is_symlink():
                    raise ConfigError(f"{self.path}: is a file, not a folder")
                return
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be used: {error.strerror or error}") from error
        if not self._record.is_file():
            self._check_only_runs()
            return
        record = load_config(self._record).data
        config, settings = record.get("config"), record.get("settings")
        if not isinstance(config, dict) or not isinstance(settings, list):
            raise ConfigError(f"{self._record}: must name config and settings; choose another --output-dir")
        if settings != self._grid.settings:
            theirs, ours = (" ".join(map(str, each)) for each in (settings, self._grid.settings))
            raise ConfigError(f"{self.path}: holds the grid of {theirs}, not of {ours}; choose another --output-dir")
        for key in _different(config, self._grid.base.data):
            raise ConfigError(
                f"{self.path}: its grid was begun with another {self._grid.config_path}: {key} has changed; "
                "undo that, or choose another --output-dir"
            )

    def run_of(self, combination: Combination) -> RunFolder:
        """Return the folder of a run."""
        return RunFolder(self.path / combination.name)

    def has_ended(self, combination: Combination) -> bool:
        """Whether nothing is left to be done in a run.

        :raise ConfigError: if the run is not that of the combination, or its files lie elsewhere
        """
        run = self.run_of(combination)
        if not run.is_begun:
            return False
        ours = {"seed": 0, **combination.config.data}  # what a training has whose config tells none
        for key in _different(load_config(run.config).data, ours):
            raise ConfigError(
                f"{run.config}: {key} is not what the grid says; undo that, or choose another --output-dir"
            )
        run.check_links("choose another --output-dir")
        newest = next(iter(list_checkpoints(run.checkpoints)), None)
        return run.is_noted("ended", 0 if newest is None else sequence_of(newest))

    def words_for(self, combination: Combination) -> tuple[str, ...]:
        """Return what trains a combination to its end, behind ``emloop-mtl``."""
        run, config = self.run_of(combination), str(self._grid.config_path)
        path = str(run.path)
        if run.is_begun:  # --trust: its config is the one that was given here, which may name any code
            return ("resume", path, "--auto", "--trust")
        if run.path.is_dir() and any(run.path.iterdir()):  # killed while it began
            return ("resume", path, "--auto", "--trust", "--config", config, *combination.overrides)
        return ("train", config, *combination.overrides, "--output-dir", path)

    @contextmanager
    def begun(self) -> Iterator[None]:
        """Make the folder, record the grid, and keep other processes from training it.

        :raise ConfigError: if it cannot be written, or holds something else by now
        :raise FolderInUseError: if another process trains it
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be made: {error.strerror or error}") from error
        folder = RunFolder(self.path)
        with folder.locked():
            self.check()
            folder.clear_up()
            if not self._record.is_file():
                record = {"config": self._grid.base.data, "settings": self._grid.settings}
                try:
                    write_atomically(self._record, write_yaml(record))
                except OSError as error:
                    with suppress(OSError):
                        self.path.rmdir()
                    raise ConfigError(f"{self._record}: cannot be written: {error.strerror or error}") from error
            yield

    @property
    def _record(self) -> Path:
        return self.path / GRID_FILE

    def _check_only_runs(self) -> None:
        """Check that there is nothing but runs of the grid, which somebody may have trained by hand."""
        names = {each.name for each in self._grid.combinations}
        known = {*names, *(f"{name}{LOG_SUFFIX}" for name in names)}
        for entry in self.path.iterdir():
            if entry.name not in known and not entry.name.startswith(TEMPORARY):
                raise ConfigError(f"{self.path}: holds {entry.name!r} but no {GRID_FILE}; choose another --output-dir")


def _different(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """Return the keys of what is different in two configs."""
    return differing([flat_settings(theirs), flat_settings(ours)])
