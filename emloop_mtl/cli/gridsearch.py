"""``emloop-mtl gridsearch``."""

from __future__ import annotations

from pathlib import Path

import click

from .options import config_argument, json_option, output_root_option, verbose_option
from .reporting import reported

EXAMPLE = """\b
Example:
  emloop-mtl gridsearch config.yaml "model.optimizer.lr=[0.01, 0.003]" "seed=[1, 2, 3]" --dry-run
  emloop-mtl gridsearch config.yaml "model.optimizer.lr=[0.01, 0.003]" hooks.StopAfter.epochs=5 --jobs 2
"""


@click.command(epilog=EXAMPLE)
@config_argument
@click.argument("settings", metavar="KEY=[A,B]...", nargs=-1, required=True)
@output_root_option("the grid gets a folder of its own, named after the model: MODEL_grid")
@click.option("--output-dir", type=click.Path(path_type=Path), help="The folder of the grid itself.")
@click.option(
    "-j", "--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Trainings at the same time."
)
@click.option("--dry-run", is_flag=True, help="Print the commands that are left to run, and run none.")
@json_option
@verbose_option
def gridsearch(
    config: Path,
    settings: tuple[str, ...],
    output_root: Path,
    output_dir: Path | None,
    jobs: int,
    dry_run: bool,
    as_json: bool,
    verbose: bool,
) -> None:
    """Train the file CONFIG with every combination of the values that KEY=[A, B] lists, and compare what comes out.

    KEY=VALUE is the same for all of them; a value that is a list itself is written KEY=[[1, 2], [3]].

    All combinations are checked before the first one is trained. Each is trained by a process of its own, in a folder
    that is named after its values. The same command goes on where it was interrupted, tries again what has failed, and
    leaves alone what has finished. The exit code is 1 if some have failed.
    """
    with reported(verbose):
        from .searching_grid import search_grid

        code = search_grid(config, settings, output_root, output_dir, jobs, dry_run, as_json, verbose)
        if code != 0:
            raise SystemExit(code)
