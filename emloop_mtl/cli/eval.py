"""``emloop-mtl eval``."""

from __future__ import annotations

from pathlib import Path

import click

from .options import overrides_argument, run_argument, trust_option, verbose_option
from .reporting import reported

EXAMPLE = """\b
Example:
  emloop-mtl eval test log/digits_2024-05-01_12-00-00
  emloop-mtl eval test log/digits_2024-05-01_12-00-00 --checkpoint latest dataset.batch_size=256
  emloop-mtl eval test ensemble.yaml
"""


@click.command("eval", epilog=EXAMPLE)
@click.argument("stream")
@run_argument
@overrides_argument
@click.option("--checkpoint", "tag", metavar="TAG", help="Whose weights to take  [default: best if there, else latest]")
@click.option("--output-dir", type=click.Path(path_type=Path), help="Where hooks write files, if some do.")
@trust_option
@verbose_option
def evaluate(
    stream: str,
    run_dir: Path,
    overrides: tuple[str, ...],
    tag: str | None,
    output_dir: Path | None,
    trust: bool,
    verbose: bool,
) -> None:
    """Score a trained model on STREAM of its dataset.

    The config is that of the run, overridden by its section eval.STREAM and then by KEY=VALUE; hooks that only make
    sense in a training are left out unless eval.STREAM lists them. Nothing is written into RUN_DIR. For an Ensemble or
    a Sequence its config stands in place of RUN_DIR.
    """
    with reported(verbose):
        from .evaluating import evaluate_run

        evaluate_run(run_dir, stream, overrides, tag, output_dir, trust)
