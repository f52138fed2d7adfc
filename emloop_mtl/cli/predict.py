"""``emloop-mtl predict``."""

from __future__ import annotations

from pathlib import Path

import click

from .options import overrides_argument, run_argument, trust_option, verbose_option
from .reporting import reported

EXAMPLE = """\b
Example:
  emloop-mtl predict test log/digits_2024-05-01_12-00-00 --output test.csv
  emloop-mtl predict test log/digits_2024-05-01_12-00-00 --task digit | head
"""


@click.command(epilog=EXAMPLE)
@click.argument("stream")
@run_argument
@overrides_argument
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write  [default: stdout]")
@click.option("--format", metavar="jsonl|csv", help="How to write  [default: as FILE's suffix says, else jsonl]")
@click.option("--task", "tasks", metavar="NAME", multiple=True, help="Only this task; may be given several times.")
@click.option("--checkpoint", "tag", metavar="TAG", help="Whose weights to take  [default: best if there, else latest]")
@trust_option
@verbose_option
def predict(
    stream: str,
    run_dir: Path,
    overrides: tuple[str, ...],
    output: Path | None,
    format: str | None,
    tasks: tuple[str, ...],
    tag: str | None,
    trust: bool,
    verbose: bool,
) -> None:
    """Write what a trained model predicts for STREAM of its dataset, one row per sample and task.

    A row has uid, data, task, label, pred and prob. Labels may be missing. The config is that of the run, overridden
    by its section eval.STREAM and then by KEY=VALUE; its hooks do not act. Nothing is written into RUN_DIR. For an
    Ensemble or a Sequence its config stands in place of RUN_DIR.
    """
    with reported(verbose):
        from .predicting import predict_run

        predict_run(run_dir, stream, overrides, tag, tasks, output, format, trust)
