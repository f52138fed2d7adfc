"""What is different in the ends of two runs of one training."""

from __future__ import annotations

import json
import os
import re
import stat
import struct
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch

from ..checkpoint import list_checkpoints, load_checkpoint, newest_checkpoint
from ..config.load import load_config
from ..constants import CHECKPOINT_FOLDER, CONFIG_FILE, LOG_FILE, PROFILE_FILE, RUN_FILE, TRACE_FILE
from ..errors import EmloopError
from ..utils.flat_names import POSITION
from .event_files import is_event_file, scalars_of
from .kill_at import KillAt

CLOCKS = {
    "StopAfter": ("seconds",),
    "TrainingTrace": ("train_begin", "resumed"),
    "WriteTensorBoard": ("files",),
    "WriteWandb": ("id",),
}
"""Hook -> what its state tells of the clock, or of the files and services that every run or process begins anew."""

WANDB_RUN = re.compile(r"(offline-)?run-\d{8}_\d{6}-.*")
"""What W&B calls the folder in which it keeps what one process has logged."""

TRACE_CLOCKS = ("train_begin", "train_end", "resumed")
"""What ``trace.yaml`` tells of the clock."""

NOT_COMPARED = "times on the clock, the names of TensorBoard's files, runs of W&B, and the text of train.log"

PARTS = {"hooks": 2, "streams": 2, "model": 2}
"""How many keys name a part of the state; elsewhere one does."""

EXTRA = "there, but not in the undisturbed run"


def differences_of_runs(run: Path, whole: Path) -> list[str]:
    """Return the parts in which the end of a run differs from that of another, a line each; none if all is equal.

    :param run: the folder of the one
    :param whole: the folder of the other, of the same training
    """
    return [*_in_checkpoints(run, whole), *_in_files(run, whole)]


def end_of(run: Path) -> int:
    """Return at which step a run has ended."""
    return newest_checkpoint(run / CHECKPOINT_FOLDER, KillAt.END_TAG).position.step


def differences(first: Any, second: Any, where: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the places in which two states differ, be it in one bit.

    :param where: the place of both
    """
    if type(first) is not type(second):
        yield where
    elif isinstance(first, torch.Tensor):
        if not _is_equal(first, second):
            yield where
    elif isinstance(first, Mapping):
        for key in dict.fromkeys([*first, *second]):
            if key in first and key in second:
                yield from differences(first[key], second[key], (*where, str(key)))
            else:
                yield (*where, str(key))
    elif isinstance(first, list | tuple):
        if len(first) != len(second):
            yield where
        else:
            for index, (one, other) in enumerate(zip(first, second, strict=True)):
                yield from differences(one, other, (*where, str(index)))
    elif isinstance(first, float):
        if struct.pack("d", first) != struct.pack("d", second):
            yield where
    elif first != second:
        yield where


def _is_equal(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether two tensors are equal bit for bit: nan equals nan, and 0 differs from -0."""
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    first, second = (each.contiguous().reshape(-1).view(torch.uint8) for each in (first, second))
    return torch.equal(first, second)


def _in_checkpoints(run: Path, whole: Path) -> Iterator[str]:
    """Yield what is different in the newest checkpoint of each tag; what is in several of them, once."""
    ours, theirs = _newest(run), _newest(whole)
    clocks = _clocks(whole)
    found: defaultdict[str, list[str]] = defaultdict(list)
    for tag in sorted(ours.keys() | theirs.keys(), key=lambda tag: (tag != KillAt.END_TAG, tag)):
        if tag == KillAt.SAVED_TAG:
            continue
        name = "the end" if tag == KillAt.END_TAG else f"checkpoint {tag}"
        if tag in ours and tag in theirs:
            for difference in _in_states(*(_state(path, clocks) for path in (ours[tag], theirs[tag]))):
                found[difference].append(name)
        else:
            found[f"is {'missing' if tag in theirs else EXTRA}"].append(name)
    for difference, names in found.items():
        yield f"{', '.join(names)}: {difference}"


def _in_states(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[str]:
    """Yield the first place in each part that differs."""
    parts: defaultdict[str, list[str]] = defaultdict(list)
    for place in differences(ours, theirs):
        parts["/".join(place[: PARTS.get(place[0], 1)])].append("/".join(place))
    for places in parts.values():
        yield f"{places[0]} differs{_and_more(len(places) - 1)}"


def _newest(run: Path) -> dict[str, Path]:
    """Return the newest checkpoint of each tag."""
    newest: dict[str, Path] = {}
    for path in list_checkpoints(run / CHECKPOINT_FOLDER):
        newest.setdefault(path.name.rpartition("-")[0], path)
    return newest


def _state(path: Path, clocks: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    checkpoint = load_checkpoint(path)
    state = dict(checkpoint.state)
    state["hooks"] = {
        hook: {key: value for key, value in found.items() if key not in clocks.get(hook, ())}
        for hook, found in state["hooks"].items()
    }
    position = checkpoint.position._asdict()
    return {"weights": checkpoint.weights, "position": position, "finished": checkpoint.finished, **state}


def _clocks(run: Path) -> dict[str, tuple[str, ...]]:
    """Return, by the names of the hooks, what their states tell of the clock."""
    return {arguments.get("name") or kind: CLOCKS.get(kind, ()) for kind, arguments in _hooks(run)}


def _readers(run: Path) -> dict[str, Callable[[Path], Any]]:
    """Return, by the names of files in the folder of the run, what reads the part of them that is compared."""
    profiles = (arguments.get("path", PROFILE_FILE) for kind, arguments in _hooks(run) if kind == "WriteProfile")
    return {TRACE_FILE: _read_trace, **dict.fromkeys(map(os.path.normpath, profiles), _read_profile)}


def _hooks(run: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield class and arguments of each hook."""
    for entry in load_config(run / CONFIG_FILE).data.get("hooks") or ():
        for kind, arguments in ({entry: None} if isinstance(entry, str) else entry).items():
            yield kind.rpartition(".")[2], arguments if isinstance(arguments, Mapping) else {}


def _in_files(run: Path, whole: Path) -> Iterator[str]:
    """Yield which of the files differ that hooks have written, whatever their format is."""
    ours, theirs, readers = _files(run), _files(whole), _readers(whole)
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in ours or name not in theirs:
            yield f"{name}: is {'missing' if name in theirs else EXTRA}"
        elif name in readers:
            one, other = (readers[name](path) for path in (ours[name], theirs[name]))
            yield from (f"{name}: {'/'.join(place)} differs" for place in differences(one, other))
        else:
            line = _first_difference(ours[name], theirs[name])
            if line is not None:
                yield f"{name}: differs from line {line} on"
    folders = {
        path.parent.relative_to(root) for root in (run, whole) for path in root.rglob("*") if is_event_file(path)
    }
    for folder in sorted(folders):
        tags = [place[0] for place in differences(scalars_of(run / folder), scalars_of(whole / folder))]
        if tags:
            yield f"{folder}: the scalar {tags[0]} differs{_and_more(len(set(tags)) - 1)}"


def _and_more(number: int) -> str:
    return f" (and {number} more)" if number else ""


def _files(run: Path) -> dict[str, Path]:
    """Return the files of a run that are compared as they are."""
    found = {}
    for top, folders, names in os.walk(run):
        if Path(top) == run:
            folders[:] = [name for name in folders if name != CHECKPOINT_FOLDER]
            names = [name for name in names if name not in (LOG_FILE, RUN_FILE)]
        folders[:] = [name for name in folders if not WANDB_RUN.fullmatch(name)]
        for name in names:
            path = Path(top, name)
            if stat.S_ISREG(path.lstat().st_mode) and not is_event_file(path):
                found[str(path.relative_to(run))] = path
    return found


def _first_difference(first: Path, second: Path) -> int | None:
    """Return the number of the first line in which two files differ, None if they are equal."""
    with first.open("rb") as one, second.open("rb") as other:
        for number, (line, expected) in enumerate(zip_longest(one, other), 1):
            if line != expected:
                return number
    return None


def _read_trace(path: Path) -> dict[str, Any]:
    """Return what ``trace.yaml`` says but for the clock."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        trace = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (ValueError, YAMLError) as error:
        raise EmloopError(f"{path}: cannot be read: {error}") from error
    return {key: value for key, value in trace.items() if key not in TRACE_CLOCKS}


def _read_profile(path: Path) -> list[dict[str, Any]]:
    """Return what the lines of ``WriteProfile`` say but for the seconds."""
    try:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [dict.fromkeys(record) | {name: record[name] for name in POSITION} for record in records]
    except (ValueError, LookupError, TypeError) as error:
        raise EmloopError(f"{path}: cannot be read: {error}") from error
