"""Removes runs that have not come far."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from errno import ENAMETOOLONG
from pathlib import Path

import click

from ..config.yaml_text import read_yaml
from ..constants import CONFIG_FILE, RUN_FILE
from ..errors import ConfigError
from ..utils.shown import printable
from .folder_in_use import LOCKED
from .listed_run import ListedRun
from .listing import print_runs, runs_in, size
from .run_reading import MOST, read_run
from .small_file import read_small
from .tables import print_text

RECORDED = ("config", "source_folder", "working_folder")
"""What the record of a run names; other programs have files of this name, too."""


class _KeptError(Exception):
    """A folder that must not be removed, with the reason."""


class _GoneError(Exception):
    """A folder that somebody else has removed meanwhile."""


def prune_runs(
    folder: Path, epochs: int, without_checkpoint: bool, recursive: bool, dry_run: bool, yes: bool, as_json: bool
) -> bool:
    """Remove runs, and return whether all could be removed that had to be.

    :param folder: where the runs are
    :param epochs: how many finished epochs keep a run
    :param without_checkpoint: remove runs, too, that have no checkpoint
    :param recursive: look into folders that are no runs, too
    :param dry_run: only tell what would be removed
    :param yes: do not ask
    :param as_json: print an object for programs instead of a table
    :raise ConfigError: if there is no such folder, or nobody who could be asked
    """
    doomed: list[tuple[Path, ListedRun]] = []
    kept: dict[str, str] = {}
    for path in runs_in(folder, recursive):
        run = read_run(path)
        if not _is_little(run, epochs, without_checkpoint) or not path.is_dir():
            continue
        try:
            _check(path, run, folder)
            doomed.append((path, run))
        except _KeptError as reason:
            kept[run.run] = str(reason)
    if not as_json:
        _tell([run for _, run in doomed], kept, folder)
    removed: list[ListedRun] = []
    failed: dict[str, str] = {}
    if doomed and not dry_run and (yes or _confirmed([run for _, run in doomed])):
        for path, run in doomed:
            try:
                _remove(path, folder, epochs, without_checkpoint)
                removed.append(run)
            except _GoneError:
                continue
            except _KeptError as reason:
                kept[run.run] = str(reason)
                click.echo(f"kept: {run.run}: {reason}", err=True)
            except OSError as error:
                failed[run.run] = f"{printable(error.filename or path)}: {error.strerror or error}"
                click.echo(f"cannot be removed: {failed[run.run]}", err=True)
    if as_json:
        shown = [asdict(run) for run in ([run for _, run in doomed] if dry_run else removed)]
        print_text(json.dumps({"dry_run": dry_run, "removed": shown, "kept": kept, "failed": failed}, indent=2))
    elif doomed:
        print_text(f"removed {_count(removed)}" if removed else "nothing was removed")
    return not failed


def _is_little(run: ListedRun, epochs: int, without_checkpoint: bool) -> bool:
    return run.epochs < epochs or (without_checkpoint and run.checkpoints == 0)


def _check(path: Path, run: ListedRun, folder: Path) -> None:
    """Check that a folder may be removed.

    :raise _KeptError: if not, or if that is not certain
    """
    resolved = path.resolve()
    if path.is_symlink() or not resolved.is_relative_to(folder.resolve()):
        raise _KeptError("is a link")
    if run.state == "running":
        raise _KeptError("a process trains in it")
    if run.fault is not None:
        raise _KeptError(f"is broken, so that nothing tells how far it came: {run.fault}")
    if not (path / CONFIG_FILE).is_file() or (path / CONFIG_FILE).is_symlink():
        raise _KeptError(f"has no {CONFIG_FILE}")
    record = _record(path)
    if not all(isinstance(record.get(name), str) for name in RECORDED):
        raise _KeptError(f"has no {RUN_FILE} that says that it is a run")
    for needed, what in (
        (record["source_folder"], "the modules of its config"),
        (str(Path.cwd()), "the working folder"),
    ):
        if Path(needed).resolve().is_relative_to(resolved):
            raise _KeptError(f"holds {what}")


def _record(path: Path) -> dict[str, str]:
    try:
        content = read_small(path / RUN_FILE, MOST)
        record = None if content is None else read_yaml(content.decode(), lambda line, column: RUN_FILE)[0]
    except ValueError:
        record = None
    return record if isinstance(record, dict) else {}


def _remove(path: Path, folder: Path, epochs: int, without_checkpoint: bool) -> None:
    """Remove a run, unless it has come further meanwhile.

    :raise _KeptError: if it has, or if a process trains in it
    :raise _GoneError: if it is gone
    :raise OSError: if it cannot be removed
    """
    with _locked(path):
        run = read_run(path, is_locked=True)
        if not _is_little(run, epochs, without_checkpoint):
            raise _KeptError("has come further meanwhile")
        _check(path, run, folder)
        # Whoever waits for the lock finds no run then, nor a part of one.
        aside = path.with_name(f".{path.name}-removed-{os.getpid()}")
        path.rename(aside)
        try:
            shutil.rmtree(aside)
        except RecursionError as error:
            raise OSError(ENAMETOOLONG, "its folders are too deep", str(aside)) from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other processes from training in a folder.

    :raise _KeptError: if one does so, or if it cannot be known
    :raise _GoneError: if the folder is gone
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError as error:
        raise _GoneError from error
    except OSError as error:
        raise _KeptError(error.strerror or str(error)) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in LOCKED:
                raise _KeptError("a process trains in it") from error
            # A file system without locks: then nobody can be seen training.
        try:
            is_same = os.path.samestat(os.fstat(handle), path.lstat())
        except FileNotFoundError as error:
            raise _GoneError from error
        if not is_same:
            raise _KeptError("is another folder meanwhile")
        yield
    finally:
        os.close(handle)


def _tell(doomed: list[ListedRun], kept: dict[str, str], folder: Path) -> None:
    if doomed:
        print_runs(f"Runs to be removed from {printable(folder)}", doomed, folder)
    else:
        print_text("there is nothing to remove")
    for name, why in kept.items():
        click.echo(f"kept: {name}: {why}", err=True)


def _confirmed(runs: list[ListedRun]) -> bool:
    try:
        return click.confirm(f"Remove {_count(runs)}, {size(sum(run.bytes for run in runs))}?", err=True)
    except click.Abort as error:
        click.echo(err=True)  # ends the line of the question
        raise ConfigError("nothing was removed: nobody has answered; --yes removes without asking") from error


def _count(runs: list[ListedRun]) -> str:
    return f"{len(runs)} run{'' if len(runs) == 1 else 's'}"
