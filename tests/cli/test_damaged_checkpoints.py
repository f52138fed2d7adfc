"""``emloop-mtl resume`` where the newest checkpoint is damaged: the bad file is named, the one before is taken."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from emloop_mtl.checkpoint import list_checkpoints, newest_checkpoint

from .conftest import Command

CONFIG = """
dataset: {class: emloop_mtl.testing.FakeDataset, train: [{x: [1]}, {x: [2]}, {x: [3]}]}
model: {class: emloop_mtl.testing.FakeModel}
hooks:
  - ComputeStats: {variables: [loss]}
  - WriteJSON
  - SaveEvery: {steps: 1, keep: 2}
  - StopAfter: {epochs: 2}
"""


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def alter(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def remove(path: Path) -> None:
    path.unlink()


@pytest.fixture
def whole(folder: Path, command: Command) -> Path:
    """A finished run whose last checkpoints are of the steps 5 and 6."""
    (folder / "config.yaml").write_text(CONFIG)
    done = command("train", "config.yaml", "--output-dir", "whole")
    assert done.exit_code == 0, done.stderr
    return folder / "whole"


@pytest.mark.parametrize("name", ["manifest.json", "model.safetensors", "state.pt"])
def test_each_file_of_it(name: str, whole: Path, command: Command) -> None:
    for damage in (cut, alter, empty, remove):
        run = whole.with_name(f"{damage.__name__}")
        shutil.copytree(whole, run)
        newest = list_checkpoints(run / "checkpoints")[0]
        damage(newest / name)
        done = command("resume", run.name)
        assert done.exit_code == 0, done.stderr
        told = [line for line in done.stderr.splitlines() if "warning" in line]
        assert len(told) == 1, told
        assert f"skipping a bad checkpoint: '{run.name}/checkpoints/{newest.name}/{name}': " in told[0]
        assert "(epoch 1, step 5)" in done.stderr
        found, expected = (newest_checkpoint(each / "checkpoints") for each in (run, whole))
        assert (found.position, found.weights, found.tag) == (expected.position, expected.weights, expected.tag)
        assert (run / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


def test_all_of_them_are_named_where_none_is_good(whole: Path, command: Command) -> None:
    checkpoints = list_checkpoints(whole / "checkpoints")
    damages: list[Callable[[Path], None]] = [cut, empty]
    for path, damage in zip(checkpoints, damages, strict=True):
        damage(path / "state.pt")
    done = command("resume", "whole")
    assert done.exit_code == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: 'whole/checkpoints' has no valid checkpoint; tried: ")
    assert all(path.name in last for path in checkpoints)
