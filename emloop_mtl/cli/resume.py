"""``emloop-mtl resume``."""

from __future__ import annotations

from pathlib import Path

import click

from .options import overrides_argument, run_argument, trust_option, verbose_option
from .reporting import reported

EXAMPLE = """\b
Example:
  emloop-mtl resume log/digits_2024-05-01_12-00-00
  emloop-mtl resume log/digits_2024-05-01_12-00-00 hooks.StopAfter.epochs=40
"""


@click.command(epilog=EXAMPLE)
@run_argument
@overrides_argument
@trust_option
@verbose_option
def resume(run_dir: Path, overrides: tuple[str, ...], trust: bool, verbose: bool) -> None:
    """Go on with the training in RUN_DIR, exactly where its newest checkpoint stands.

    KEY=VALUE changes an entry of its config for good, to make the run longer for example. A run that has finished is
    left as it is unless something is changed.
    """
    with reported(verbose):
        from .running import train_on

        train_on(run_dir, overrides, trust)
