"""Folders of runs that were never trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

from emloop_mtl.utils.files import sha256_of
from emloop_mtl.utils.manifest import write_manifest

STEPS = 10
"""In each epoch."""

CONFIG = """\
seed: {seed}
dataset:
  class: flowers.Flowers
  batch_size: 16
model:
  class: MultiTaskModel
  name: "{model}"
  optimizer:
    class: adamw
    lr: {lr}
hooks:
- SaveBest: {save_best}
- WriteJSON
- TrainingTrace
"""

WATCHED = "{variable: kind/iris/accuracy, mode: max}"
NAME = "kind/iris/valid/accuracy"


def make_run(
    path: Path,
    *,
    epochs: int = 2,
    end: str | None = "finished",
    began: str = "2026-01-01 12:00:00+00:00",
    took: float = 60,
    scores: Mapping[int, float] | None = None,
    save_best: str = WATCHED,
    model: str = "flowers",
    lr: float = 0.01,
    seed: int = 7,
) -> Path:
    """Make the folder of a run that has a config, a record, a trace, a checkpoint and numbers.

    :param end: None for one that was killed
    :param scores: the accuracy of each epoch
    """
    path.mkdir(parents=True)
    name = model.encode("unicode_escape").decode()
    (path / "config.yaml").write_text(CONFIG.format(save_best=save_best, model=name, lr=lr, seed=seed))
    source = path.parent.resolve()
    (path / "run.yaml").write_text(f"config: config.yaml\nsource_folder: {source}\nworking_folder: {source}\n")
    ended = datetime.fromisoformat(began) + timedelta(seconds=took)
    trace = {
        "train_begin": began,
        "train_end": "null" if end is None else ended,
        "exit_status": "null" if end is None else int(end == "failed"),
        "end": end or "null",
        "epochs_done": epochs,
        "steps_done": epochs * STEPS,
        "resumed": [],
    }
    (path / "trace.yaml").write_text("".join(f"{key}: {value}\n" for key, value in trace.items()))
    lines = [
        {"epoch": epoch, "step": epoch * STEPS, "samples": 0, NAME: score, "train/loss": 1 / (epoch + 1)}
        for epoch, score in (scores or {}).items()
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    _make_checkpoint(path / "checkpoints", epochs, end == "finished")
    return path


def _make_checkpoint(folder: Path, epochs: int, finished: bool) -> None:
    checkpoint = folder / "latest-00000001"
    checkpoint.mkdir(parents=True)
    files = {}
    for name in ("model.safetensors", "state.pt"):
        (checkpoint / name).write_bytes(b"never read")
        files[name] = {"size": (checkpoint / name).stat().st_size, "sha256": sha256_of(checkpoint / name)}
    manifest = {
        "format": 1,
        "sequence": 1,
        "position": {"epoch": epochs, "step": epochs * STEPS, "passes": epochs, "samples": 160 * epochs},
        "finished": finished,
        "tag": "latest",
        "tags": ["latest"],
        "ties": {},
        "files": files,
    }
    write_manifest(checkpoint / "manifest.json", manifest)
