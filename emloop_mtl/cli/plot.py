"""``emloop-mtl plot``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import verbose_option
from .reporting import reported

SUFFIXES = (".png", ".svg", ".pdf")

EXAMPLE = """\b
Example:
  emloop-mtl plot log/digits_2024-05-01_12-00-00
  emloop-mtl plot log/digits_* --only '*/loss' --log -o losses.svg
"""


def _check_suffix(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    if path is not None and path.suffix.lower() not in SUFFIXES:
        raise click.BadParameter(
            f"the name must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}, not {path.name!r}"
        )
    return path


class _Weight(click.FloatRange):
    """A number from 0 on and less than 1; nan is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        weight: float = super().convert(value, param, ctx)
        if weight != weight:
            self.fail(f"{value} is not in the range 0<=x<1.", param, ctx)
        return weight


@click.command(epilog=EXAMPLE)
@click.argument("runs", metavar="RUN...", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=_check_suffix,
    help="The file, .png, .svg or .pdf; by default plot.png in the folder of the run, or here for several.",
)
@click.option(
    "--only",
    metavar="PATTERN",
    multiple=True,
    help="Draw these numbers only, such as '*/accuracy', learning_rate or profile; several times, too.",
)
@click.option("--x", "axis", type=click.Choice(["step", "epoch"]), default="step", help="The horizontal axis.")
@click.option(
    "--smooth",
    metavar="WEIGHT",
    type=_Weight(0, 1, max_open=True),
    default=0.0,
    help="Draw running means in which a value counts WEIGHT as much as the one after it, such as 0.9.",
)
@click.option("--log", "is_log", is_flag=True, help="Draw losses on a logarithmic axis.")
@verbose_option
def plot(
    runs: tuple[Path, ...],
    output: Path | None,
    only: tuple[str, ...],
    axis: str,
    smooth: float,
    is_log: bool,
    verbose: bool,
) -> None:
    """Draw the numbers of runs: losses and scores of each task, learning rates, and where the time went.

    Several runs are drawn one over the other. Their numbers are read from the files of WriteJSON, WriteCSV and
    WriteTensorBoard, the times from that of WriteProfile. Files are read only, so the runs may come from anybody.
    Needs matplotlib, the extra 'plot'.
    """
    with reported(verbose):
        from .look import Look
        from .plotting import plot_runs

        plot_runs(runs, output, only, Look(axis, smooth, is_log))
