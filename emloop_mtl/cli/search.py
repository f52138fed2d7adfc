"""``emloop-mtl search``."""

from __future__ import annotations

from pathlib import Path

import click

from .options import config_argument, json_option, overrides_argument, verbose_option
from .reporting import reported

EXAMPLE = """\b
Example:
  emloop-mtl search config.yaml
  emloop-mtl search config.yaml search.trials=100 hooks.StopAfter.epochs=5
  emloop-mtl search config.yaml --section search.yaml -o log/widths
\b
with this in config.yaml, or without the first line in search.yaml:
  search:
    trials: 50
    watch: {stream: valid, variable: model/all/loss, mode: min}
    ranges:
      model.optimizer.lr: {low: 1e-5, high: 1e-1, log: true}
      dataset.batch_size: [16, 32, 64]
"""


@click.command(epilog=EXAMPLE)
@config_argument
@overrides_argument
@click.option(
    "--section", type=click.Path(path_type=Path), help="A file with what the section 'search' of CONFIG would hold."
)
@click.option(
    "-o",
    "--output-dir",
    type=click.Path(path_type=Path),
    help="The folder of the study.  [default: log/MODEL_search, with the name of the model]",
)
@json_option
@verbose_option
def search(
    config: Path,
    overrides: tuple[str, ...],
    section: Path | None,
    output_dir: Path | None,
    as_json: bool,
    verbose: bool,
) -> None:
    """Train the file CONFIG again and again with other settings, and find the best.

    The section 'search' of it says which settings are tried and by which number they are judged. Optuna chooses them
    and gives up what is not promising. Each trial is a run of its own in the folder of the study.

    Called again it goes on: with trials that were interrupted or killed from their checkpoints, until there are as many
    trials as 'search.trials' says. Several may be called at the same time, and share the work.
    """
    with reported(verbose):
        from .searching import search_best

        search_best(config, overrides, section, output_dir, as_json)
