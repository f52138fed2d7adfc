"""Where the modules and files are that a config names."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from ..constants import BEST_FILE, STUDY_FILE
from ..errors import ConfigError


def folder_of(config: Path) -> Path:
    """Return the folder that the modules and files are in which a config names.

    It is the folder that the config itself lies in; but that of the config of the search for what a search has written.
    """
    folder = config.resolve().parent if config.is_symlink() else config.parent
    record = folder / STUDY_FILE
    if config.name == BEST_FILE and record.is_file():
        return recorded_folder(record) or folder
    return folder


def recorded_folder(record: Path) -> Path | None:
    """Return the folder that a file such as ``run.yaml`` names, None if it is not there any more.

    A working folder that was moved as a whole, record and modules together, is found again from within.

    :raise ConfigError: if it names none
    """
    from .load import load_config

    data = load_config(record).data
    source, working = data.get("source_folder"), data.get("working_folder")
    if not isinstance(source, str) or not isinstance(working, str):
        raise ConfigError(f"{record}: must name source_folder and working_folder")
    candidates = [Path(source)]
    with suppress(ValueError):
        candidates.append(Path.cwd() / Path(source).relative_to(working))
    return next((folder for folder in candidates if folder.is_dir()), None)
