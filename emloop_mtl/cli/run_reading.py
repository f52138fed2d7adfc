"""Reads what the small files in the folder of a run say; runs no code of it, and opens no links."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..config.yaml_text import read_yaml
from ..constants import CHECKPOINT_FOLDER, CONFIG_FILE, RUN_FILE, TRACE_FILE
from ..errors import EmloopError
from ..utils.checkpoint_names import FORMAT, MANIFEST_FILE, MODEL_FILE, STATE_FILE, list_checkpoints
from ..utils.cleared import Cleared
from ..utils.manifest import read_manifest
from ..utils.shown import printable
from .folder_in_use import is_in_use
from .listed_run import ListedRun
from .run_config import RunConfig
from .run_numbers import Place, RunNumbers
from .small_file import read_small

MOST = 2**20
"""Bytes of a trace that is read; a line each time that the run was resumed."""

ENDS = ("finished", "interrupted", "failed")
MAX_TEXT = 200
"""Characters of a fault that are shown: what a stranger has written into a file could fill the screen."""


def is_run(path: Path) -> bool:
    """Whether a folder is that of a run: it has a config, and what only runs have; links do not count."""
    try:
        return _looks_like_run(path)
    except OSError:  # not ours to look into
        return False


def _looks_like_run(path: Path) -> bool:
    if path.is_symlink() or not path.is_dir():
        return False
    marks = (path / RUN_FILE, path / TRACE_FILE)
    checkpoints = path / CHECKPOINT_FOLDER
    has_checkpoints = checkpoints.is_dir() and not checkpoints.is_symlink()
    return any(mark.is_file() and not mark.is_symlink() for mark in marks) or (
        has_checkpoints and ((path / CONFIG_FILE).exists() or bool(list_checkpoints(checkpoints)))
    )


def find_runs(folder: Path, recursive: bool) -> Iterator[Path]:
    """Yield the runs in a folder, by name; the folder itself if it is one. Links are not followed.

    :param recursive: look into folders that are no runs, too
    """
    if is_run(folder.resolve()):  # a link that somebody names is meant
        yield folder
        return
    waiting = _folders_in(folder)
    while waiting:
        path = waiting.pop()
        if is_run(path):
            yield path
        elif recursive and os.access(path, os.R_OK | os.X_OK):
            waiting += _folders_in(path)


def _folders_in(folder: Path) -> list[Path]:
    """Return the folders in a folder, the last one first; a run that is being replaced or removed lies in a hidden one.

    :raise OSError: if it cannot be read
    """
    with os.scandir(folder) as entries:
        found = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    return [folder / name for name in sorted(found, reverse=True) if not name.startswith(".")]


def read_run(path: Path, is_locked: bool = False) -> ListedRun:
    """Return what the files of a run say; a run that cannot be read is ``broken``, with the fault.

    :param is_locked: whether this process holds the lock of the run, so that no other one trains in it
    """
    run = ListedRun(printable(path), bytes=size_of(path))
    faults: list[str] = []
    config = RunConfig()
    try:
        config = RunConfig.of(path, whole=False)
    except ValueError as error:
        faults.append(_line(error))
    run.model, run.model_class, run.dataset = config.model, config.model_class, config.dataset
    manifests = _read_manifests(path, run, faults)
    _read_trace(path, run, faults)
    try:
        run.best = RunNumbers(path, config).best(_saved(manifests, config))
    except ValueError as error:
        faults.append(_line(error))
    if not is_locked and is_in_use(path):
        run.state = "running"
    elif run.state == "running":
        run.state = "killed"
    if faults:
        run.state, run.fault = "broken", faults[0]
    return run


def size_of(path: Path) -> int:
    """Return the bytes of all files in a folder; what has several names counts once, and links are not followed."""
    seen: dict[tuple[int, int], int] = {}
    waiting = [os.fspath(path)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        found = entry.stat(follow_symlinks=False)
                        seen[found.st_dev, found.st_ino] = found.st_size
        except OSError:  # removed meanwhile, or not ours to read
            continue
    return sum(seen.values())


def _read_manifests(path: Path, run: ListedRun, faults: list[str]) -> list[Mapping[str, Any]]:
    """Return the manifests of all checkpoints, the newest first, and note how far the run is."""
    found: list[Mapping[str, Any]] = []
    folder = path / CHECKPOINT_FOLDER
    try:
        checkpoints = [] if folder.is_symlink() else list_checkpoints(folder)
    except OSError as error:
        faults.append(_line(f"{CHECKPOINT_FOLDER}: {error.strerror}"))
        return found
    for checkpoint in checkpoints:
        if checkpoint.is_symlink():
            continue
        run.checkpoints += 1
        try:
            manifest = read_manifest(checkpoint / MANIFEST_FILE, FORMAT, (MODEL_FILE, STATE_FILE))
            position = manifest["position"]
            epoch, step = _count(position["epoch"]), _count(position["step"])
            for name, entry in manifest["files"].items():
                size = (checkpoint / name).lstat().st_size
                if size != entry["size"]:
                    raise ValueError(f"{name} has {size} bytes instead of {entry['size']}")
        except (EmloopError, ValueError, LookupError, TypeError, AttributeError, RecursionError, OSError) as error:
            if checkpoint.exists():  # else a training that goes on has removed it meanwhile
                text = error.strerror if isinstance(error, OSError) else str(error)
                faults.append(_line(f"{checkpoint.name}: {text}"))
            continue
        run.epochs, run.steps = max(run.epochs, epoch), max(run.steps, step)
        if manifest.get("finished") is True and not found:
            run.state = "finished"
        found.append(manifest)
    cleared = None if folder.is_symlink() else Cleared.read(folder)
    if cleared is not None:
        run.epochs, run.steps = max(run.epochs, cleared.position.epoch), max(run.steps, cleared.position.step)
        run.state = "finished"
    return found


def _read_trace(path: Path, run: ListedRun, faults: list[str]) -> None:
    """Note when a run began and how it ended; a run without a trace is no worse for it."""
    try:
        content = read_small(path / TRACE_FILE, MOST)
        if content is None:
            record = path / RUN_FILE
            if record.is_file() and not record.is_symlink():
                _note_times(run, datetime.fromtimestamp(record.stat().st_mtime, UTC), None)
            return
        trace, _ = read_yaml(content.decode(), lambda line, column: f"line {line + 1}")
        begin, end = _time(trace["train_begin"]), _time(trace["train_end"])
        run.epochs = max(run.epochs, _count(trace["epochs_done"]))
        run.steps = max(run.steps, _count(trace["steps_done"]))
        run.state = trace["end"] if trace["end"] in ENDS else "running"
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        faults.append(_line(f"{TRACE_FILE}: {reason}"))
    else:
        _note_times(run, begin, end)


def _note_times(run: ListedRun, begin: datetime | None, end: datetime | None) -> None:
    if begin is not None:
        run.began = begin.isoformat(timespec="seconds")
        run.age = max(0.0, (datetime.now(UTC) - begin).total_seconds())
    if end is not None:
        run.ended = end.isoformat(timespec="seconds")


def saved_best(path: Path, config: RunConfig) -> Place | None:
    """Return when the checkpoint was saved that ``SaveBest`` keeps; None where there is none that can be read."""
    return _saved(_read_manifests(path, ListedRun(str(path)), []), config)


def _saved(manifests: list[Mapping[str, Any]], config: RunConfig) -> Place | None:
    """Return when the checkpoint was saved that ``SaveBest`` keeps."""
    tag = (config.arguments_of("SaveBest") or {}).get("tag", "best")
    for manifest in manifests:
        if manifest.get("tag") == tag:
            return manifest["position"]["epoch"], manifest["position"]["step"]
    return None


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{str(value)[:50]!r} is no whole number from 0 on")
    return value


def _time(text: Any) -> datetime | None:
    if text is None:
        return None
    time = datetime.fromisoformat(text)
    if not 1970 <= time.year < 9999:  # others cannot be told in another time zone
        raise ValueError(f"{text!r} is no time of a training")
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def _line(error: object) -> str:
    text = printable(" ".join(str(error).split()))
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"
