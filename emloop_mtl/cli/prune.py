"""``emloop-mtl prune``."""

from __future__ import annotations

from pathlib import Path

import click

from ..constants import DEFAULT_OUTPUT_ROOT
from .options import json_option, verbose_option
from .reporting import reported

EXAMPLE = """\b
Example:
  emloop-mtl prune --dry-run
  emloop-mtl prune runs --epochs 5 --yes
"""


@click.command(epilog=EXAMPLE)
@click.argument("folder", type=click.Path(path_type=Path), default=Path(DEFAULT_OUTPUT_ROOT))
@click.option(
    "-e",
    "--epochs",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Remove runs that have finished fewer epochs than this.",
)
@click.option("--without-checkpoint", is_flag=True, help="Remove runs, too, that have no checkpoint.")
@click.option("-r", "--recursive", is_flag=True, help="Look into the folders below, too; never into runs.")
@click.option("--dry-run", is_flag=True, help="Remove nothing, show what would be removed.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
@verbose_option
def prune(
    folder: Path,
    epochs: int,
    without_checkpoint: bool,
    recursive: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    verbose: bool,
) -> None:
    """Remove the runs in FOLDER, by default 'log', that have not come far.

    They are shown, and nothing is removed before that was confirmed. Never removed are folders that are no runs, runs
    that a process trains or that cannot be read, and what a link leads to.
    """
    if as_json and not (yes or dry_run):
        raise click.UsageError("--json cannot ask; add --yes, or --dry-run to remove nothing")
    with reported(verbose):
        from .pruning import prune_runs

        if not prune_runs(folder, epochs, without_checkpoint, recursive, dry_run, yes, as_json):
            raise SystemExit(1)
