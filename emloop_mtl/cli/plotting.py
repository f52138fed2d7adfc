"""Draws runs."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import click

from ..errors import ConfigError
from ..utils.figure import check_matplotlib, save_figure
from ..utils.shown import printable
from .comparing import differing, flat_settings, short_names
from .curve import Curve
from .line import Line
from .look import Look
from .number_name import NumberName, is_learning_rate
from .panel import Panel, arranged, united
from .run_curves import RunCurves
from .run_figure import RunFigure, drawing
from .run_reading import is_run
from .tables import print_text

NAME = "plot.png"
"""What the file is called unless the user says."""

PROFILE = "profile"
"""What patterns of numbers call the times."""

MOST_PANELS = 32
"""More numbers than these are drawn metric by metric, all tasks together."""

MOST_SETTINGS = 4
"""Settings by which the legend tells runs apart."""

LONGEST = 24
"""Characters of a setting in the legend."""


def plot_runs(paths: Sequence[Path], output: Path | None, only: Sequence[str], look: Look) -> None:
    """Draw runs in one figure, and print where it is.

    :param output: the file; by default ``plot.png``, in the folder of the run if there is one run only
    :param only: patterns of the numbers to draw; none for all
    :raise ConfigError: if one is no run, or cannot be read, or has no numbers, and without matplotlib
    """
    check_matplotlib("plot")
    path = output if output is not None else Path(NAME) if len(paths) > 1 else paths[0] / NAME
    if output is not None and not output.absolute().parent.is_dir():
        raise ConfigError(f"{printable(output)}: there is no folder {printable(output.parent)}")
    runs = [_read(each) for each in paths]
    _check_different(runs)
    runs = _with_numbers(runs, only)
    streams = {stream for run in runs for stream in run.streams}
    named, rates = [], Panel("", "learning rate", is_loss=False)
    for index, run in enumerate(runs):
        for name, curve in _drawn(run, only, look).items():
            if is_learning_rate(name):
                rates.lines.append(Line(index, printable(name.partition("/")[2]), curve))
            else:
                named.append((index, NumberName.of(printable(name), streams), curve))
    panels = arranged(named)
    if len(panels) > MOST_PANELS:
        panels = united(panels)
    if len(panels) > MOST_PANELS:
        text = f"{len(panels) - MOST_PANELS} of {len(panels)} panels are left out; choose numbers with --only"
        click.echo(text, err=True)
        panels = panels[:MOST_PANELS]
    has_times = _is_chosen(PROFILE, only) and any(run.times for run in runs)
    names = short_names([run.run for run in runs])
    with drawing(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        labels = _labels(runs, names) if len(runs) > 1 else [runs[0].run]
        figure = RunFigure(runs, names, labels, panels, rates, has_times, look).draw()
        save_figure("plot", figure, path)
    _tell(caught, path)
    print_text(printable(path))


def _read(path: Path) -> RunCurves:
    if not is_run(path.resolve()):
        what = "is not the folder of a run" if path.exists() else "no such folder"
        raise ConfigError(f"{printable(path)}: {what}")
    try:
        return RunCurves.read(printable(path), path)
    except ValueError as error:
        raise ConfigError(f"{printable(path)}: {error}") from error


def _check_different(runs: Sequence[RunCurves]) -> None:
    named: set[str] = set()
    for run in runs:
        if run.run in named:
            raise ConfigError(f"{run.run}: is named twice; draw different runs")
        named.add(run.run)


def _with_numbers(runs: Sequence[RunCurves], only: Sequence[str]) -> list[RunCurves]:
    """Return the runs that have something to draw, and tell which have not.

    :raise ConfigError: if none has
    """
    found = []
    for run in runs:
        if any(_is_chosen(name, only) for name in run.curves) or (run.times and _is_chosen(PROFILE, only)):
            found.append(run)
            continue
        hint = "has no numbers; WriteJSON, WriteCSV or WriteTensorBoard in its config would have written them"
        if run.curves or run.times:
            hint = "--only fits none of its numbers"
        if len(runs) == 1:
            raise ConfigError(f"{run.run}: {hint}")
        click.echo(f"{run.run}: {hint}", err=True)
    if not found:
        raise ConfigError("none of the runs has numbers to draw")
    return found


def _drawn(run: RunCurves, only: Sequence[str], look: Look) -> dict[str, Curve]:
    """Return the curves that were chosen, over the axis that was chosen."""
    curves = {name: curve for name, curve in run.curves.items() if _is_chosen(name, only)}
    if look.axis == "step":
        return curves
    try:
        return {name: Curve(run.epochs_of(curve.x), curve.y) for name, curve in curves.items()}
    except ValueError as error:
        raise ConfigError(f"{run.run}: {error}") from error


def _is_chosen(name: str, only: Sequence[str]) -> bool:
    return not only or any(fnmatchcase(name, pattern) for pattern in only)


def _labels(runs: Sequence[RunCurves], names: Sequence[str]) -> list[str]:
    """Return what tells runs apart: their names, and the settings that differ."""
    settings = [flat_settings(run.config.data) for run in runs]
    keys = differing(settings)
    last = [key.rpartition(".")[2] for key in keys]
    short = {key: end if last.count(end) == 1 else key for key, end in zip(keys, last, strict=True)}
    labels = []
    for name, each in zip(names, settings, strict=True):
        told = [f"{short[key]}={_shown(each[key])}" for key in keys[:MOST_SETTINGS] if key in each]
        more = ["…"] if len(keys) > MOST_SETTINGS else []
        labels.append("  ".join([name, *map(printable, told), *more]))
    return labels


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _tell(caught: Sequence[warnings.WarningMessage], path: Path) -> None:
    if path.suffix.lower() != ".svg" and any("missing from font" in str(each.message) for each in caught):
        click.echo("names have letters that the font lacks; an SVG file is shown in fonts that have them", err=True)
