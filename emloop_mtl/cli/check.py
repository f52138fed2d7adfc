"""``emloop-mtl check``."""

from __future__ import annotations

from pathlib import Path

import click

from .options import config_argument, overrides_argument, verbose_option
from .reporting import reported

EXAMPLE = """\b
Example:
  emloop-mtl check config.yaml
"""


@click.command(epilog=EXAMPLE)
@config_argument
@overrides_argument
@click.option("--trust", is_flag=True, help="Run code from anywhere that the runs name which the model is made of.")
@verbose_option
def check(config: Path, overrides: tuple[str, ...], trust: bool, verbose: bool) -> None:
    """Build what the file CONFIG says, run one batch of every loader, and show what a training would do.

    Shown are streams, sources, tasks, parameters, and which hook acts when. Nothing is trained and nothing is left
    behind.
    """
    with reported(verbose):
        from .checking import check_training

        check_training(config, overrides, trust)
