"""Every mistake in a config of joint learning is answered by one line with its position."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import ROOT, Command
from .test_mistakes import Mistake, check_example

EXAMPLE = ROOT / "examples" / "05_joint"

HEADS = "heads: {class: LinearHeads, input_dim: 128, classes: {0: 10, 90: 10, 180: 10, 270: 10}}"
HEAD = "{class: torch.nn.Linear, in_features: 128, out_features: 10}"

MISTAKES = [
    Mistake("270: 10}", "270: 0}", "270: 0", "task 270: a number of classes must be a whole number > 0, not 0"),
    Mistake("270: 10}", "270: ten}", "270: ten", "model.heads.classes[270]: expected int, got 'ten'"),
    Mistake("270: 10}", "left: 10}", "heads:", "'left' is no id, but other heads have ids (0, 90, 180)"),
    Mistake("270: 10}", "280: 10}", "valid]", "the model has no task '270'; did you mean '280'?"),
    Mistake("input_dim: 128, ", "", "heads:", "LinearHeads: missing argument 'input_dim'"),
    Mistake(HEADS, f"heads:\n    0: {{module: {HEAD}, loss: mze}}", "loss: mze", "unknown loss 'mze'"),
    Mistake(HEADS, f"heads:\n    -1: {HEAD}", "-1:", "-1 cannot be the id of a task"),
    Mistake('["5"]', '["55"]', '"55"', "the backbone has no layer '55'; did you mean '5'?"),
    Mistake("label: digit", "label: digt", "label: digt", "no loader holds its label 'digt'; did you mean 'digit'?"),
    Mistake("label: digit", "loss_weights: {}", "model:", "no loader holds its label 'label'; known are"),
    Mistake("label: digit", "task_source: id", "task_source: id", "nothing tells which of the tasks 0, 90, 180, 270"),
    Mistake("label: digit", "loss_weights: {91: 2}", "91: 2", "there is no head '91'"),
    Mistake("hparams: {images", "hparams: {images: {class: torch.nn.ReLU}, image", "hparams:", "is no plain data"),
    Mistake("[loss, acc]", "[loss, accu]", "ComputeStats", "did you mean 'acc'?"),
]  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES, ids=[mistake.says for mistake in MISTAKES])
def test_a_mistake_about_joint_learning_is_answered_by_one_line(
    mistake: Mistake, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "joint"
    folder.mkdir()
    monkeypatch.chdir(folder)
    check_example(mistake, EXAMPLE, "turned_digits.py", folder, command)
