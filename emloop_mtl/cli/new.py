"""``emloop-mtl new``."""

from __future__ import annotations

from pathlib import Path

import click

from .options import verbose_option
from .reporting import reported

EXAMPLE = """\b
Example:
  emloop-mtl new my_project
  emloop-mtl train my_project/config.yaml
"""


@click.command(epilog=EXAMPLE)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@verbose_option
def new(folder: Path, verbose: bool) -> None:
    """Write a small working project into the folder DIR, which must be empty or not be there.

    It holds a config, a dataset, a hook and a test, and trains at once.
    """
    with reported(verbose):
        from .project_files import write_project

        write_project(folder)
