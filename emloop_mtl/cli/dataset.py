"""``emloop-mtl dataset``."""

from __future__ import annotations

from pathlib import Path

import click

from .options import config_argument, json_option, verbose_option
from .reporting import reported

EXAMPLE = """\b
Example:
  emloop-mtl dataset download config.yaml
  emloop-mtl dataset statistics config.yaml split=valid dataset.batch_size=8
"""


@click.command(epilog=EXAMPLE)
@click.argument("method")
@config_argument
@click.argument("arguments", metavar="[KEY=VALUE]...", nargs=-1)
@json_option
@verbose_option
def dataset(method: str, config: Path, arguments: tuple[str, ...], as_json: bool, verbose: bool) -> None:
    """Build the dataset that the file CONFIG describes, call METHOD of it, and print what it returns.

    KEY=VALUE is an argument of the method, the value in YAML. A KEY with dots, such as dataset.batch_size, overrides an
    entry of the config. What a method yields is printed line by line.
    """
    with reported(verbose):
        from .calling import call_dataset

        call_dataset(method, config, arguments, as_json)
