"""The command ``gridsearch``: from the command line to the table."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Sequence
from pathlib import Path

from ..utils.shown import printable
from .folder_in_use import is_in_use
from .folder_in_use_error import FolderInUseError
from .grid import Grid
from .grid_checking import check_configs
from .grid_folder import GridFolder
from .grid_results import print_results
from .grid_search import GridSearch
from .run_config import RunConfig
from .run_folder import folder_name
from .tables import print_text

log = logging.getLogger(__name__)


def search_grid(
    config_path: Path,
    settings: Sequence[str],
    output_root: Path,
    output_dir: Path | None,
    jobs: int,
    dry_run: bool,
    as_json: bool,
    verbose: bool,
) -> int:
    """Train all combinations of a grid, or what is left of it, print a table, and return the exit code.

    :param settings: ``key=[a, b]`` and ``key=value``
    :param output_root: where the grid gets a folder that is named after the model
    :param output_dir: the folder of the grid itself
    :param jobs: how many trainings at the same time
    :param dry_run: print the commands only
    :param as_json: print an object for programs
    :param verbose: show debug messages of the trainings, too
    :raise ConfigError: if something is wrong with the grid, before anything is trained
    """
    grid = Grid(config_path, settings)
    check_configs(grid.combinations)
    folder = GridFolder(output_dir or output_root / _name_of(grid), grid)
    folder.check()
    search = GridSearch(grid, folder, jobs, ("--verbose",) if verbose else ())
    if dry_run:
        _print_commands(search, folder, len(grid.combinations), as_json)
        return 0
    if is_in_use(folder.path):
        raise FolderInUseError(folder.path)
    search.check()
    with folder.begun():
        code = search.train()
    print_results(folder.path, search.results(), grid.short_names, as_json)
    return code


def _name_of(grid: Grid) -> str:
    model = RunConfig(grid.combinations[0].config.data).model or "model"
    return f"{folder_name(model)}_grid"


def _print_commands(search: GridSearch, folder: GridFolder, number: int, as_json: bool) -> None:
    commands = search.commands
    if as_json:
        described = [
            {"run": str(folder.path / name), "command": ["emloop-mtl", *words]} for name, words in commands.items()
        ]
        print_text(json.dumps(described, indent=2))
        return
    for words in commands.values():
        print_text(shlex.join(["emloop-mtl", *words]))
    if len(commands) < number:
        log.info("%i of %i trainings in %s have finished", number - len(commands), number, printable(folder.path))
