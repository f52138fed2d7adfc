"""Checkpoints: the one format for the state of a training.

A checkpoint is a folder ``<tag>-<sequence>`` with three files: the weights in the safetensors format, everything else
as ``torch.load(weights_only=True)`` reads it, and a manifest with the sizes and sums of both and a sum of its own. It
appears under its name only when it is complete and on disk, and reading it cannot run code.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import pickle
import platform
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from .errors import CheckpointError, nearest
from .snapshot import Snapshot
from .types import Position, State
from .utils.checkpoint_names import (
    FOLDER_NAME,
    FORMAT,
    MANIFEST_FILE,
    MODEL_FILE,
    STATE_FILE,
    TAG,
    list_checkpoints,
    sequence_of,
    tag_of,
)
from .utils.cleared import Cleared
from .utils.disk_room import lack_of_room
from .utils.files import link_or_copy, make_folder, sync_folder
from .utils.host_memory import HostMemory
from .utils.manifest import read_manifest, verify_file, write_manifest
from .utils.plain import check_plain
from .utils.tensor_tree import TensorTree, put_together

__all__ = [
    "FOLDER_NAME",
    "MANIFEST_FILE",
    "MODEL_FILE",
    "STATE_FILE",
    "Checkpoint",
    "check_plain",
    "clear_checkpoints",
    "complete_checkpoint",
    "list_checkpoints",
    "load_checkpoint",
    "newest_checkpoint",
    "remove_checkpoint",
    "save_checkpoint",
    "sequence_of",
    "take_snapshot",
    "write_checkpoint",
]

logger = logging.getLogger(__name__)

TEMPORARY = ".tmp-"
"""What the name of a folder begins with while it is written or removed."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was verified and read; all its tensors are on the CPU.

    :param weights: the model's state
    :param state: all other state
    :param position: where the training stood
    :param finished: whether it had ended regularly
    :param path: the folder that it was read from
    :param tag: what it was saved for
    :param tags: all that it was saved for, each in a folder of its own
    :param sequence: its number among the checkpoints of the run; those of one number have equal content
    """

    weights: dict[str, State]
    state: dict[str, State]
    position: Position
    finished: bool
    path: Path
    tag: str
    tags: list[str]
    sequence: int


def save_checkpoint(
    folder: str | Path,
    tags: Sequence[str],
    weights: Mapping[str, State],
    state: Mapping[str, State],
    position: Position,
    finished: bool = False,
    keep: int | None = 1,
) -> list[Path]:
    """Write one checkpoint under each of ``tags``, then remove older ones of these tags.

    When this returns, the checkpoint is on disk. When it raises, what was there before is still there and valid.

    :param folder: where checkpoints are kept; made if missing
    :param tags: what the checkpoint is for, ``latest`` and ``best`` for example
    :param weights: the model's state, plain data and tensors, nested or not
    :param state: all other state, likewise
    :param position: where the training stands
    :param finished: whether it has ended regularly
    :param keep: how many checkpoints of each tag stay, the new one included; None: all
    :return: the new folder of each tag
    :raise CheckpointError: if something cannot be saved or written, naming the folder and the cause
    """
    return write_checkpoint(folder, tags, take_snapshot(folder, weights, state), position, finished, keep)


def take_snapshot(
    folder: str | Path, weights: Mapping[str, State], state: Mapping[str, State], memory: HostMemory | None = None
) -> Snapshot:
    """Make state ready to be written: all that can be wrong with it is found here.

    :param folder: where the checkpoint will be written, for errors
    :param weights: the model's state, plain data and tensors, nested or not
    :param state: all other state, likewise
    :param memory: where tensors are copied to; without it nothing may change before the checkpoint is written
    :raise CheckpointError: if something cannot be saved, naming its place
    """
    with _explained(_failure(folder)):
        return Snapshot(weights, state, memory)


def write_checkpoint(
    folder: str | Path,
    tags: Sequence[str],
    snapshot: Snapshot,
    position: Position,
    finished: bool = False,
    keep: int | None = 1,
    stop: threading.Event | None = None,
) -> list[Path]:
    """Write a snapshot under each of ``tags``, then remove older ones of these tags.

    The tensors are written once; further tags are hard links to the same files.

    :param stop: breaks the writing off once it is set, so that it fails
    :raise CheckpointError: if it cannot be written; see ``save_checkpoint``, also for the other parameters
    """
    folder = Path(folder)
    paths: list[Path] = []
    with _explained(_failure(folder)), contextlib.ExitStack() as temporary:
        tags = _checked_tags(tags, keep)
        make_folder(folder)
        _remove_leftovers(folder)
        lack = lack_of_room(folder, snapshot.size)
        if lack is not None:
            raise CheckpointError(f"it takes {lack}")
        sequence = 1 + max((sequence_of(path) for path in folder.iterdir()), default=0)
        manifest = {
            "format": FORMAT,
            "sequence": sequence,
            "position": position._asdict(),
            "finished": finished,
            "versions": _versions(),
            "ties": snapshot.ties,
            "tags": tags,
        }
        written = [folder / f"{TEMPORARY}{tag}-{sequence:08d}" for tag in tags]
        for tag, new in zip(tags, written, strict=True):
            temporary.callback(shutil.rmtree, new, ignore_errors=True)
            new.mkdir()
            if new == written[0]:
                manifest["files"] = snapshot.write(new, stop)
            else:
                _link_files(written[0], new)
            write_manifest(new / MANIFEST_FILE, {**manifest, "tag": tag})
        for new in written:
            paths.append(new.rename(folder / new.name.removeprefix(TEMPORARY)))
        Cleared.forget(folder)
        sync_folder(folder)
    if keep is not None:
        for tag in tags:
            for path in list_checkpoints(folder, tag)[keep:]:
                remove_checkpoint(path)
    return paths


def complete_checkpoint(checkpoint: Checkpoint) -> None:
    """Do what a kill in the middle of saving a checkpoint has left undone.

    It is written under those of its tags that it lacks, and what is older under its tags is removed.

    :raise CheckpointError: if it cannot be written, naming the folder and the cause
    """
    folder = checkpoint.path.parent
    with _explained(f"cannot complete a checkpoint in '{folder}'"), contextlib.ExitStack() as temporary:
        _remove_leftovers(folder)
        cleared = Cleared.read(folder)
        if cleared is not None and cleared.last > checkpoint.sequence:
            return  # what is newer was removed on purpose, and so was what is older
        for tag in checkpoint.tags:
            if any(sequence_of(path) >= checkpoint.sequence for path in list_checkpoints(folder, tag)):
                continue
            new = folder / f"{TEMPORARY}{tag}-{checkpoint.sequence:08d}"
            if cleared is not None and new.name.removeprefix(TEMPORARY) in cleared.names:
                continue
            temporary.callback(shutil.rmtree, new, ignore_errors=True)
            new.mkdir()
            _link_files(checkpoint.path, new)
            manifest = read_manifest(checkpoint.path / MANIFEST_FILE, FORMAT, (MODEL_FILE, STATE_FILE))
            write_manifest(new / MANIFEST_FILE, {**manifest, "tag": tag})
            new.rename(folder / new.name.removeprefix(TEMPORARY))
        sync_folder(folder)
    for tag in checkpoint.tags:
        for path in list_checkpoints(folder, tag):
            if sequence_of(path) < checkpoint.sequence:
                remove_checkpoint(path)


def clear_checkpoints(paths: Sequence[Path], position: Position) -> None:
    """Remove checkpoints of one folder since their training has finished; what is known of them stays there.

    The newest goes last, so that a training that is killed meanwhile is resumed at its end.

    :param position: where the training has finished
    :raise CheckpointError: if nothing can be written there; then all are kept
    """
    paths = sorted(paths, key=sequence_of)
    folder = paths[0].parent
    with _explained(f"cannot clear the checkpoints in '{folder}'"):
        Cleared.write(folder, position, [path.name for path in paths])
    for path in paths:
        remove_checkpoint(path)


def remove_checkpoint(path: str | Path) -> None:
    """Remove a checkpoint so that no part of it is ever taken for one; a failure is logged, it endangers nothing."""
    path = Path(path)
    doomed = path.with_name(TEMPORARY + path.name)
    try:
        path.rename(doomed)
        shutil.rmtree(doomed)
    except OSError as error:
        logger.warning("cannot remove the checkpoint '%s': %s", path, error)


def newest_checkpoint(folder: str | Path, tag: str | None = None) -> Checkpoint:
    """Read the newest valid checkpoint; each newer one that is bad is logged as a warning with its fault.

    :param folder: where checkpoints are kept
    :param tag: only those saved for this; None: all
    :raise CheckpointError: if there is none
    """
    paths = list_checkpoints(folder, tag)
    for path in paths:
        try:
            return load_checkpoint(path)
        except CheckpointError as error:
            logger.warning("skipping a bad checkpoint: %s", error)
            last = error
    if paths:
        names = ", ".join(path.name for path in paths)
        raise CheckpointError(f"'{folder}' has no valid checkpoint; tried: {names}; the last one: {last}") from last
    if tag is None:
        raise CheckpointError(f"'{folder}' has no checkpoint{Cleared.reason(folder)}")
    tags = {tag_of(path) for path in list_checkpoints(folder)}
    raise CheckpointError(f"'{folder}' has no checkpoint with the tag {tag!r}{nearest(tag, tags)}")


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Verify a checkpoint and read it.

    :param path: the folder of the checkpoint
    :raise CheckpointError: if it is damaged, incomplete, of an unknown format, or holds anything but plain data and
        tensors, naming the bad file
    """
    path = Path(path)
    with _explained(f"'{path / MANIFEST_FILE}'"):
        manifest = read_manifest(path / MANIFEST_FILE, FORMAT, (MODEL_FILE, STATE_FILE))
        ties, files, tags = manifest["ties"], manifest["files"], _checked_tags(manifest["tags"], None)
        position = _checked_position(manifest, tags)
        finished, tag, sequence = manifest["finished"], manifest["tag"], manifest["sequence"]
    for name, entry in files.items():
        with _explained(f"'{path / name}'"):
            verify_file(path / name, entry["size"], entry["sha256"])
    with _explained(f"'{path / MODEL_FILE}'"):
        from safetensors.torch import load_file

        tensors = load_file(path / MODEL_FILE)
    with _explained(f"'{path / STATE_FILE}'"):
        stored = _read_state(path / STATE_FILE)
        weights = put_together(TensorTree(stored["weights"], tensors | stored["others"], ties))
    return Checkpoint(weights, stored["state"], position, finished, path, tag, tags, sequence)


def _checked_position(manifest: Mapping[str, State], tags: Sequence[str]) -> Position:
    """Return the position; what else is a plain value in a manifest must have its type, too."""
    position = Position(**manifest["position"])
    for name, number in {"sequence": manifest["sequence"], **position._asdict()}.items():
        if type(number) is not int or number < 0:
            raise CheckpointError(f"its {name} is no whole number from 0 on")
    if type(manifest["finished"]) is not bool:
        raise CheckpointError("it does not say whether the training had finished")
    if manifest["tag"] not in tags:
        raise CheckpointError("its tag is none of its tags")
    return position


def _failure(folder: str | Path) -> str:
    return f"cannot save a checkpoint in '{folder}'"


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into a CheckpointError that begins with ``what``."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{what}: {error}") from error
    except OSError as error:
        raise CheckpointError(f"{what}: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        reason = "holds more than plain data and tensors; it is not read any further, since that could run code"
        raise CheckpointError(f"{what}: {reason}") from error
    except Exception as error:  # there is no end to what readers raise on broken files, and devices while copying
        raise CheckpointError(f"{what}: {type(error).__name__}: {error}") from error


def _checked_tags(tags: Sequence[str], keep: int | None) -> list[str]:
    if not tags or isinstance(tags, str):
        raise CheckpointError(f"it needs a list of tags, not {tags!r}")
    for tag in tags:
        if not TAG.fullmatch(tag):
            raise CheckpointError(f"{tag!r} cannot be a tag; allowed are letters, digits and, not in front, . + = -")
    if keep is not None and keep < 1:
        raise CheckpointError(f"keep is {keep}; allowed are 1, the new checkpoint alone, and more, or None for all")
    return list(dict.fromkeys(tags))


def _remove_leftovers(folder: Path) -> None:
    """Remove what a save or a removal has left behind that was killed."""
    for leftover in folder.glob(f"{TEMPORARY}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _link_files(source: Path, target: Path) -> None:
    for name in (MODEL_FILE, STATE_FILE):
        link_or_copy(source / name, target / name)


def _read_state(path: Path) -> dict[str, State]:
    # b"" is pickled as a call of ``bytes``: the one piece of plain data that torch does not let through by itself
    with torch.serialization.safe_globals([bytes]):
        stored = torch.load(path, map_location="cpu", weights_only=True)
    if type(stored) is not dict or not all(type(stored.get(part)) is dict for part in ("weights", "others", "state")):
        raise CheckpointError("is not the state of a training")
    check_plain(stored)
    return stored


@functools.cache  # to look them up takes longer than to write a small model
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("emloop_mtl", "torch", "numpy", "safetensors"):
        with contextlib.suppress(PackageNotFoundError):  # of emloop_mtl itself where it is not installed
            found[package] = version(package)
    return found
