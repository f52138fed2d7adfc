"""Checks the checkpoints of a run, which may come from anybody."""

from __future__ import annotations

import json
import stat
from dataclasses import asdict
from pathlib import Path

import click

from ..checkpoint import FOLDER_NAME, TEMPORARY, load_checkpoint, sequence_of
from ..constants import CHECKPOINT_FOLDER
from ..errors import CheckpointError, ConfigError
from ..utils.cleared import CLEARED_FILE
from ..utils.shown import printable
from .checked_checkpoint import CheckedCheckpoint
from .checked_run import CheckedRun
from .reporting import one_line
from .run_folder import RunFolder
from .tables import print_table

MAX_TEXT = 300
"""Characters of a fault that are shown: what a stranger has written into a file could fill the screen."""


def verify_run(run_dir: Path, as_json: bool) -> bool:
    """Check all checkpoints of a run, print what was found, and return whether they are whole.

    :param as_json: print an object for programs instead of a table
    """
    found = check_run(run_dir)
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2))
    else:
        _print(found)
    return found.is_whole


def check_run(run_dir: Path) -> CheckedRun:
    """Read and check every checkpoint of a run.

    :raise ConfigError: if there is no run
    """
    folder = RunFolder(run_dir).checkpoints
    if not folder.is_dir():  # where it is, the training may have been started in Python, without the file of a config
        RunFolder.existing(run_dir)
    result = CheckedRun(printable(run_dir))
    for path in sorted(_entries(folder), key=lambda path: (sequence_of(path), path), reverse=True):
        match = FOLDER_NAME.fullmatch(path.name)
        if match is None or not path.is_dir():
            kind = _leftover(path)
            if kind is not None:
                result.leftovers[printable(path.name)] = kind
            continue
        checked = _check(path, match["tag"])
        if checked is not None:
            result.checkpoints.append(checked)
            if checked.fault is None and result.resume is None:
                result.resume = checked.name
    return result


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(f"{printable(folder)}: {error.strerror or error}") from error


def _check(path: Path, tag: str) -> CheckedCheckpoint | None:
    """Check one checkpoint; None if a training that is going on has removed it meanwhile."""
    try:
        checkpoint = load_checkpoint(path)
        size = sum(entry.lstat().st_size for entry in path.iterdir())
    except (CheckpointError, OSError) as error:
        if not path.exists():
            return None
        text = printable(one_line(error))
        fault = text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"
        return CheckedCheckpoint(path.name, tag, fault=fault)
    epoch, step, _, _ = checkpoint.position
    return CheckedCheckpoint(path.name, tag, epoch, step, checkpoint.finished, size)


def _leftover(path: Path) -> str | None:
    """Say what something is that is no checkpoint; None if it is gone meanwhile."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return None
    if path.name.startswith(TEMPORARY):
        return "of a save that was killed, or of one that is under way; the next save removes it"
    if path.name == CLEARED_FILE and stat.S_ISREG(mode):
        return "tells which checkpoints ClearCheckpoints has removed when the training had finished"
    kind = "a link" if stat.S_ISLNK(mode) else "a folder" if stat.S_ISDIR(mode) else "a file"
    return f"{kind}, no checkpoint"


def _print(found: CheckedRun) -> None:
    rows = [
        (
            each.name,
            *("" if number is None else str(number) for number in (each.epoch, each.step)),
            "" if each.bytes is None else f"{each.bytes / 1e6:,.1f}",
            "bad" if each.fault else "whole, the end" if each.finished else "whole",
        )
        for each in found.checkpoints
    ]
    if rows:
        columns = ["checkpoint", "epoch", "step", "MB", "state"]
        print_table(f"Checkpoints of {found.run}", columns, rows, right=["epoch", "step", "MB"])
    for each in found.checkpoints:
        if each.fault:
            click.echo(f"bad: {each.fault}", err=True)
    for name, what in found.leftovers.items():
        click.echo(f"{name}: {what}", err=True)
    if found.resume is not None:
        click.echo(f"resume takes {found.resume}")
    elif rows:
        click.echo(f"{found.run}: has no checkpoint that resume could take", err=True)
    else:
        click.echo(f"{found.run}: has no checkpoint in {CHECKPOINT_FOLDER}; resume would begin again", err=True)
