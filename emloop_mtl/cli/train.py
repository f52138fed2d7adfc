"""``emloop-mtl train``."""

from __future__ import annotations

from pathlib import Path

import click

from .options import config_argument, output_root_option, overrides_argument, verbose_option
from .reporting import reported

EXAMPLE = """\b
Example:
  emloop-mtl train config.yaml
  emloop-mtl train config.yaml model.optimizer.lr=0.01 hooks.StopAfter.epochs=5
"""


@click.command(epilog=EXAMPLE)
@config_argument
@overrides_argument
@output_root_option("the run gets a folder of its own, named after the model and the time")
@click.option("--output-dir", type=click.Path(path_type=Path), help="The folder of the run itself; must be empty.")
@click.option("--rm", "remove", is_flag=True, help="Replace the run that lies in --output-dir.")
@verbose_option
def train(
    config: Path, overrides: tuple[str, ...], output_root: Path, output_dir: Path | None, remove: bool, verbose: bool
) -> None:
    """Train as the file CONFIG says.

    KEY=VALUE overrides an entry of it: keys are joined by dots, hooks are found by name, values are YAML.

    Everything is checked and built before the first batch, and a run that cannot begin leaves nothing behind. At the
    end the streams that the section 'eval' lists are scored with the best weights.
    """
    if remove and output_dir is None:
        raise click.UsageError("--rm replaces the run in --output-dir; without that there is nothing to remove")
    with reported(verbose):
        from .running import train_anew

        train_anew(config, overrides, output_root, output_dir, remove)
