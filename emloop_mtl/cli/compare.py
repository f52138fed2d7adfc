"""``emloop-mtl compare``."""

from __future__ import annotations

from pathlib import Path

import click

from .options import json_option, verbose_option
from .reporting import reported

EXAMPLE = """\b
Example:
  emloop-mtl compare log/digits_2024-05-01_12-00-00 log/digits_2024-05-01_13-30-00
  emloop-mtl compare log/digits_* --only '*/valid/*' --json
"""


@click.command(epilog=EXAMPLE)
@click.argument("runs", metavar="RUN RUN...", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--last", is_flag=True, help="Compare the last epochs, not the best ones.")
@click.option(
    "--only",
    metavar="PATTERN",
    multiple=True,
    help="Show these numbers only, such as '*/accuracy'; several times, too.",
)
@json_option
@verbose_option
def compare(runs: tuple[Path, ...], last: bool, only: tuple[str, ...], as_json: bool, verbose: bool) -> None:
    """Show the scores of runs side by side, and the settings in which their configs differ.

    The scores are those of the epoch in which the number that SaveBest watches was best, and of the end of the
    training; without SaveBest those of the last epoch. Files are read only, so the runs may come from anybody.
    """
    if len(runs) < 2:
        raise click.UsageError("there must be two runs or more to compare")
    with reported(verbose):
        from .comparing import compare_runs

        compare_runs(runs, last, only, as_json)
