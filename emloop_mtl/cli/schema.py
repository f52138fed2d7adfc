"""``emloop-mtl schema``."""

from __future__ import annotations

from pathlib import Path

import click

from .options import verbose_option
from .reporting import reported

EXAMPLE = """\b
Example:
  emloop-mtl schema config.yaml -o config.schema.json
  # and the first line of config.yaml:
  # yaml-language-server: $schema=config.schema.json
"""


@click.command(epilog=EXAMPLE)
@click.argument("config", type=click.Path(path_type=Path), required=False)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Write the schema to this file instead of stdout."
)
@verbose_option
def schema(config: Path | None, output: Path | None, verbose: bool) -> None:
    """Print the JSON Schema of configs, by which editors complete and check them.

    It knows sections, hooks, models, schedulers, optimizers, losses, metrics, and the layers of torch.nn, with their
    arguments, defaults and descriptions. With a file CONFIG it knows the classes, too, that this names by a dotted
    path; their modules are imported.
    """
    with reported(verbose):
        from .schema_file import write_schema

        write_schema(config, output)
