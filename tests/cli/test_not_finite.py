"""Trainings from the command line in which a batch is not finite."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from .conftest import SHORT, Command

POISON = """
import torch
from torch import nn


class Poison(nn.Module):
    def __init__(self, at, in_buffer=True):
        super().__init__()
        self.at = at
        self.batches = 0
        if in_buffer:  # it is checkpointed there, and put back where an update is left out
            del self.batches
            self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        self.batches += self.training
        return x / (0 if self.training and self.batches == self.at else 1)
"""


def poison(folder: Path, at: int, in_buffer: bool = True) -> None:
    """Let the trunk divide by 0 in the batch that is trained on as number ``at``."""
    (folder / "other.py").write_text(POISON, encoding="utf-8")
    config = folder / "config.yaml"
    text = config.read_text(encoding="utf-8")
    first = "        - {class: torch.nn.Conv2d, in_channels: 1,"
    assert first in text
    config.write_text(
        text.replace(
            first, f"        - {{class: other.Poison, at: {at}, in_buffer: {str(in_buffer).lower()}}}\n{first}"
        ),
        encoding="utf-8",
    )


@pytest.mark.parametrize("at", [1, 5])
def test_error_ends_a_training_with_one_line_and_keeps_the_batch(at: int, folder: Path, command: Command) -> None:
    poison(folder, at)
    options = (*SHORT, "main_loop.skip_zeroth_epoch=true", "--output-dir", "run")
    done = command("train", "config.yaml", "model.update.on_nan=error", *options)
    assert done.exit_code == 1
    says = [line for line in done.stderr.splitlines() if "nan" in line and "[" not in line.split("the loss")[0]]
    assert len(says) == 1
    assert f"stream 'train', step {at}, batch {(at - 1) % 3}, loader 'digits'" in says[0]
    assert f"the batch is kept in 'run/not_finite/step-{at}'; model.update.on_nan: skip leaves out such" in says[0]
    assert "Traceback" not in done.stderr
    kept = Path("run/not_finite") / f"step-{at}"
    assert torch.load(kept / "batch.pt", weights_only=True)["sources"]["image"].isfinite().all()
    summary = json.loads((kept / "summary.json").read_text(encoding="utf-8"))
    assert bool(summary["checkpoints"]) == (at > 3)
    if at > 3:
        again = command("resume", "run", "--trust")
        assert again.exit_code == 1
        assert f"step {at}, batch" in again.stderr
        past = command("resume", "run", "--trust", "model.update.on_nan=skip")
        assert past.exit_code == 0
        assert "its update is left out" in past.stderr


def test_a_run_that_skips_scores_to_its_end(folder: Path, command: Command) -> None:
    poison(folder, 2, in_buffer=False)
    done = command("train", "config.yaml", "model.update.on_nan=skip", *SHORT, "--output-dir", "run")
    assert done.exit_code == 0
    assert done.stderr.count("its update is left out (model.update.on_nan: skip)") == 1
    assert sorted(path.name for path in Path("run/not_finite").iterdir()) == ["step-2"]
    records = [json.loads(line) for line in Path("run/metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert records[-1]["step"] == 6
