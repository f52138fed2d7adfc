"""``emloop-mtl verify``."""

from __future__ import annotations

from pathlib import Path

import click

from .options import run_argument, verbose_option
from .reporting import FAILURE, reported

EXAMPLE = """\b
Example:
  emloop-mtl verify log/digits_2024-05-01_12-00-00
  emloop-mtl verify log/digits_2024-05-01_12-00-00 --json
"""


@click.command(epilog=EXAMPLE)
@run_argument
@click.option("--json", "as_json", is_flag=True, help="Print one object of JSON for programs.")
@verbose_option
def verify(run_dir: Path, as_json: bool, verbose: bool) -> None:
    """Check every checkpoint of the run in RUN_DIR: its manifest, the sizes and sums of its files, what is in them.

    Nothing is built and no code of the run is executed; a run that is being trained can be checked as well. The exit
    code is 0 if there are checkpoints and all of them are whole, else 1, with a line for each bad file.
    """
    with reported(verbose):
        from .verifying import verify_run

        if not verify_run(run_dir, as_json):
            raise SystemExit(FAILURE)
