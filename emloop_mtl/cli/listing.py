"""Lists runs."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import click

from ..errors import ConfigError
from ..utils.shown import printable
from .listed_run import ListedRun
from .run_reading import find_runs, read_run
from .tables import print_table, print_text

UNITS = ((365 * 86400, "years"), (30 * 86400, "months"), (86400, "days"), (3600, "h"), (60, "min"))


def list_runs(folder: Path, long: bool, with_empty: bool, recursive: bool, as_json: bool) -> None:
    """Print the runs in a folder, those that began last at the end.

    :param long: print more columns
    :param with_empty: list runs, too, that have not finished an epoch
    :param recursive: look into folders that are no runs, too
    :param as_json: print a list of objects for programs instead of a table
    :raise ConfigError: if there is no such folder
    """
    read = [(path, read_run(path)) for path in runs_in(folder, recursive)]
    runs = [run for path, run in read if run.fault is None or path.is_dir()]  # others were removed meanwhile
    runs.sort(key=lambda run: (run.began or "", run.run))
    shown = [run for run in runs if with_empty or run.epochs or run.fault is not None]
    if as_json:
        print_text(json.dumps([asdict(run) for run in shown], indent=2, allow_nan=False))
        return
    if shown:
        print_runs(f"Runs in {printable(folder)}", shown, folder, long)
    hidden = len(runs) - len(shown)
    if hidden:
        some = "1 run has" if hidden == 1 else f"{hidden} runs have"
        click.echo(f"{some} not finished an epoch; -a shows {'it' if hidden == 1 else 'them'}, too", err=True)
    elif not runs:
        hint = "" if recursive else "; -r looks into the folders below"
        click.echo(f"{printable(folder)}: has no runs{hint}", err=True)
    for run in shown:
        if run.fault is not None:
            click.echo(f"broken: {run.run}: {run.fault}", err=True)


def runs_in(folder: Path, recursive: bool) -> list[Path]:
    """Return the runs in a folder.

    :raise ConfigError: if there is no such folder
    """
    if not folder.is_dir():
        raise ConfigError(f"{printable(folder)}: {'is a file, not a folder' if folder.exists() else 'no such folder'}")
    try:
        return list(find_runs(folder, recursive))
    except OSError as error:
        raise ConfigError(f"{printable(error.filename or folder)}: {error.strerror or error}") from error


def duration(seconds: float | None) -> str:
    """Return a time in its two leading digits or so, such as ``5 min``; empty for None."""
    if seconds is None:
        return ""
    for unit, name in UNITS:
        if seconds >= 2 * unit or (seconds >= unit and name in ("h", "min")):
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"


def size(number: int) -> str:
    """Return a number of bytes in a unit that suits it, such as ``1.2 MB``."""
    amount = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def print_runs(title: str, runs: list[ListedRun], folder: Path, long: bool = False) -> None:
    """Print a table of runs.

    :param folder: where they are
    :param long: print more columns
    """
    columns = ["run", "model", "dataset", "state", "epochs", "best", "score", "age", "size"]
    if long:
        columns = [*columns, "class", "steps", "saved", "began", "took"]
    rows = [_row(run, folder, long) for run in runs]
    right = ("epochs", "best", "age", "size", "steps", "saved", "took")
    print_table(title, columns, rows, right=right)


def _row(run: ListedRun, folder: Path, long: bool) -> list[str]:
    best = run.best
    name = str(Path(run.run).relative_to(printable(folder))) if run.run != printable(folder) else run.run
    row = [
        name,
        _shown(run.model),
        _shown(run.dataset if long else (run.dataset or "").rpartition(".")[2]),
        run.state,
        str(run.epochs),
        "" if best is None else f"{best.value:.4g}",
        "" if best is None else _shown(best.name),
        duration(run.age),
        size(run.bytes),
    ]
    if not long:
        return row
    began = "" if run.began is None else datetime.fromisoformat(run.began).astimezone().strftime("%Y-%m-%d %H:%M")
    took = None
    if run.began is not None and run.ended is not None:
        took = (datetime.fromisoformat(run.ended) - datetime.fromisoformat(run.began)).total_seconds()
    return [*row, _shown(run.model_class), str(run.steps), str(run.checkpoints), began, duration(took)]


def _shown(text: str | None) -> str:
    return "" if text is None else printable(text[:100])
