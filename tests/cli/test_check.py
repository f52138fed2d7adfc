"""``emloop-mtl check``: what it shows, and that it trains nothing and leaves nothing."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from .conftest import Command


def rows(out: str) -> list[list[str]]:
    return [line.split() for line in out.splitlines() if line.strip()]


def test_it_shows_streams_sources_tasks_parameters_and_hooks(command: Command) -> None:
    done = command("check", "config.yaml")
    assert done.exit_code == 0, done.stderr
    assert done.stderr == ""
    table = rows(done.stdout)
    assert ["train", "digits", "train", "1197", "38", "digit,", "parity,", "ink"] in table
    assert ["test", "digits", "test", "300", "10", "digit,", "parity,", "ink"] in table
    assert ["valid", "digits", "image", "float32", "32×1×8×8", "input"] in table
    assert ["valid", "digits", "parity", "int64", "32", "label"] in table
    assert "features (trunk) → digit_logits (digit_head)" in done.stdout
    assert ["digit_head", "650", "650"] in table
    weights = 32 * 9 + 32 + 64 * 32 * 9 + 64 + 1024 * 64 + 64
    assert ["trunk", f"{weights:,}", f"{weights:,}"] in table
    assert "in a training of 760 steps" in done.stdout
    (after_epoch,) = (row for row in table if row[0] == "after_epoch")
    order = [after_epoch.index(f"{hook},") for hook in ("ScoreTasks", "ComputeStats", "LogVariables", "SaveBest")]
    assert order == sorted(order)


def test_it_leaves_nothing(folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = folder / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    before = {path.name for path in folder.iterdir()}
    assert command("check", "config.yaml").exit_code == 0
    assert {path.name for path in folder.iterdir()} - {"__pycache__"} == before
    assert [path.name for path in temporary.iterdir() if "emloop" in path.name] == []  # torch leaves a cache there


def test_it_runs_a_batch_of_every_loader(folder: Path, command: Command) -> None:
    module = (folder / "digits.py").read_text()
    spoil = "        digit[rows['test'][0]] = 77\n"
    where = module.index("        columns = ")
    spoilt = module[:where] + spoil + module[where:]
    # With a function that makes the batches, what they hold shows only when one is read.
    (folder / "digits.py").write_text(
        spoilt.replace("split=split,", "split=split, collate=torch.utils.data.default_collate,")
    )
    done = command("check", "config.yaml")
    assert done.exit_code == 2
    assert "stream 'test'" in done.stderr
    assert "label 77" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_it_answers_mistakes_as_training_does(command: Command) -> None:
    done = command("check", "config.yaml", "hooks.SaveBest.variable=digit/digits/acuracy")
    assert done.exit_code == 2
    assert done.stderr.startswith("command line: hooks.SaveBest.variable=digit/digits/acuracy: ")
    assert "did you mean 'digit/digits/accuracy'?" in done.stderr


def test_a_frozen_module_is_not_trainable(folder: Path, command: Command) -> None:
    (folder / "frozen.py").write_text(
        "from torch import nn\n\n\ndef head():\n    return nn.Linear(64, 1).requires_grad_(False)\n"
    )
    done = command("check", "config.yaml", "model.modules.ink_head={class: frozen.head}")
    assert done.exit_code == 0, done.stderr
    assert ["ink_head", "65", "0"] in rows(done.stdout)
