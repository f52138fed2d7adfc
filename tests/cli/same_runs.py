"""Comparing two runs, part by part and bit for bit."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import torch
from ruamel.yaml import YAML

from emloop_mtl.checkpoint import Checkpoint, list_checkpoints, newest_checkpoint

EXCEPTED = {"seconds", "TrainingTrace", "WriteTensorBoard", "WriteWandb"}
"""What hooks remember of the clock, the names of event files, of which every process begins one of its own, and of runs
of W&B."""

SECONDS = re.compile(rb'("(?:reading/|model/|hooks|saving)[^"]*": )[^,}]+')
"""A time in a line of ``WriteProfile``."""

RECORDS = ("*.jsonl", "*.csv", "predictions/*")

TIMES = ("train_begin", "train_end", "resumed")
"""What the trace tells of the clock."""


def differences(first: Any, second: Any, where: str = "") -> Iterator[str]:
    """Yield the places in which two states differ, bit for bit."""
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        if first.dtype != second.dtype or not torch.equal(first.view(-1), second.view(-1)):
            yield where
    elif isinstance(first, dict) and isinstance(second, dict):
        for key in sorted({*first, *second} - EXCEPTED, key=str):
            yield from differences(first.get(key), second.get(key), f"{where}/{key}")
    elif isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)) and len(first) == len(second):
        for index, pair in enumerate(zip(first, second, strict=True)):
            yield from differences(*pair, f"{where}/{index}")
    elif first != second:
        yield f"{where}: {first!r} and {second!r}"


def state(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return all that a checkpoint holds, as one state."""
    return {"weights": checkpoint.weights, "position": checkpoint.position, **checkpoint.state}


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Return what TensorBoard shows of a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def what_differs(run: Path, whole: Path, tags: Collection[str] = ()) -> list[str]:
    """Return what is not the same in two runs: tensors and other state, records, scores, files that are left over.

    :param tags: of the checkpoints to compare; all if there are none
    """
    found = []
    both = [{path.name.rpartition("-")[0] for path in list_checkpoints(each / "checkpoints")} for each in (run, whole)]
    if both[0] != both[1] and not tags:
        found.append(f"checkpoints {sorted(both[0])} and {sorted(both[1])}")
    for tag in tags or sorted(both[0] & both[1]):
        pair = [state(newest_checkpoint(each / "checkpoints", tag)) for each in (run, whole)]
        found += [f"checkpoint {tag}{place}" for place in differences(*pair)]
    names = [sorted(path.relative_to(each) for kind in RECORDS for path in each.glob(kind)) for each in (run, whole)]
    found += [f"files {names[0]} and {names[1]}"] if names[0] != names[1] else []
    found += [str(name) for name in names[1] if name in names[0] and bytes_of(run, name) != bytes_of(whole, name)]
    found += ["tensorboard"] if (whole / "tensorboard").exists() and scalars(run) != scalars(whole) else []
    found += ["trace.yaml"] if trace(run) != trace(whole) else []
    found += ["scores.json"] if scores(run) != scores(whole) else []
    return found + [f"left over: {path}" for path in run.rglob(".*")]


def bytes_of(run: Path, name: Path) -> bytes:
    content = (run / name).read_bytes()
    return SECONDS.sub(rb"\1", content) if name.name == "profile.jsonl" else content


def trace(run: Path) -> dict[str, Any]:
    if not (run / "trace.yaml").exists():
        return {}
    read = YAML(typ="safe", pure=True).load((run / "trace.yaml").read_text())
    return {key: value for key, value in read.items() if key not in TIMES}


def scores(run: Path) -> Any:
    return json.loads((run / "scores.json").read_text())["scores"] if (run / "scores.json").exists() else None
