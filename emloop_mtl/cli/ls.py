"""``emloop-mtl ls``."""

from __future__ import annotations

from pathlib import Path

import click

from ..constants import DEFAULT_OUTPUT_ROOT
from .options import json_option, verbose_option
from .reporting import reported

EXAMPLE = """\b
Example:
  emloop-mtl ls
  emloop-mtl ls runs -l -r
  emloop-mtl ls runs --json
"""


@click.command(epilog=EXAMPLE)
@click.argument("folder", type=click.Path(path_type=Path), default=Path(DEFAULT_OUTPUT_ROOT))
@click.option("-l", "--long", is_flag=True, help="Show more columns: class, steps, checkpoints, begin, duration.")
@click.option("-a", "--all", "with_empty", is_flag=True, help="Show runs, too, that have not finished an epoch.")
@click.option("-r", "--recursive", is_flag=True, help="Look into the folders below, too; never into runs.")
@json_option
@verbose_option
def ls(folder: Path, long: bool, with_empty: bool, recursive: bool, as_json: bool, verbose: bool) -> None:
    """List the runs in FOLDER, by default 'log', as a table: the last one that has begun stands at the end.

    The best score is that of the number which SaveBest watches. Small files are read only, no code of a run is
    executed, and links are not followed, so the runs may come from anybody.
    """
    with reported(verbose):
        from .listing import list_runs

        list_runs(folder, long, with_empty, recursive, as_json)
