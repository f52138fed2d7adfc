"""Mixed batches in a config: what ``check`` shows of them, and how mistakes are told."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Command, command_here

MODULE = """
import torch
from emloop_mtl import ColumnDataset, MultiTaskDataset, TaskLoader


class Mixing(MultiTaskDataset):
    def __init__(self, dtype="float32", **options):
        super().__init__(**options)
        self.dtype = getattr(torch, dtype)

    def loaders(self):
        for name, size in (("left", 9), ("right", 6)):
            x = torch.randn(size, 3, generator=torch.Generator().manual_seed(size))
            extra = torch.zeros(size, dtype=self.dtype if name == "right" else torch.float32)
            data = ColumnDataset(name, {"x": x, "extra": extra}, {name: x.argmax(1)})
            yield TaskLoader(data, {name: name}, batch_size=2)
"""

CONFIG = """
dataset:
  class: mixing.Mixing
  streams:
    train:
      scheduler: {class: Interleaved, batch_size: 4}
model:
  class: MultiTaskModel
  device: cpu
  optimizer: adam
  modules:
    trunk: {class: torch.nn.Linear, in_features: 3, out_features: 8}
    left: {class: torch.nn.Linear, in_features: 8, out_features: 3}
    right: {class: torch.nn.Linear, in_features: 8, out_features: 3}
  tasks:
    left:
      flow: [{name: features, module: trunk, inputs: x}, {name: out_left, module: left, inputs: features}]
      label: left
      loss: cross_entropy
    right:
      flow: [{name: features, module: trunk, inputs: x}, {name: out_right, module: right, inputs: features}]
      label: right
      loss: cross_entropy
hooks:
  - LogVariables
  - StopAfter: {epochs: 2}
"""


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """Runs the command in a folder with a config that mixes batches."""
    (tmp_path / "mixing.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "config.yaml").write_text(CONFIG, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with command_here() as run:
        yield run
    sys.modules.pop("mixing", None)


def test_check_shows_and_runs_a_mixed_batch_beside_those_of_the_loaders(command: Command) -> None:
    done = command("check", "config.yaml")
    assert done.exit_code == 0, done.stderr
    table = [line.split() for line in done.stdout.splitlines()]
    assert ["train", "left", "x", "float32", "2×3", "input"] in table
    assert ["train", "left+right", "x", "float32", "4×3", "input"] in table
    assert "in a training of 8 steps" in done.stdout  # 15 rows are 4 batches


@pytest.mark.parametrize("name", ["check", "train"])
def test_sources_that_do_not_go_together_are_found_before_the_first_batch(command: Command, name: str) -> None:
    done = command(name, "config.yaml", "dataset.dtype=int64")
    text = "has dtype torch.float32 in loader 'left' and torch.int64 in loader 'right'; rows of one batch must be alike"
    assert (done.exit_code, done.stderr) == (2, f"config.yaml:2:1: dataset: source 'extra' {text}\n")
    assert not Path("log").exists()


@pytest.mark.parametrize(
    ("line", "place", "text"),
    [
        ("batch_size: 0", "6:39", "Interleaved: batch_size must be a whole number, 1 or more, not 0"),
        ("batch_sise: 4", "6:39", "Interleaved: unknown argument 'batch_sise'; did you mean 'batch_size'?"),
        ("fillup: true", "6:7", "Interleaved: missing argument 'batch_size'"),
        ("batch_size: 4, task_source: x", "6:54", "loader 'left' holds a source 'x' of its own; take another name"),
        ("batch_size: 4, task_source: task, fillup: 3", "6:73", "expected bool, got 3"),
    ],
)
def test_mistakes_are_told_in_one_line_with_their_place(command: Command, line: str, place: str, text: str) -> None:
    Path("config.yaml").write_text(CONFIG.replace("batch_size: 4", line), encoding="utf-8")
    done = command("train", "config.yaml")
    assert done.exit_code == 2
    assert done.stderr.startswith(f"config.yaml:{place}: dataset.streams.train.scheduler")
    assert done.stderr.rstrip().endswith(text)
    assert len(done.stderr.splitlines()) == 1
    assert not Path("log").exists()
