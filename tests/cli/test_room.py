"""A training that has no room on its disk for a checkpoint is refused before it begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Command

VAST = """
from emloop_mtl.testing import FakeModel


class Vast(FakeModel):
    def checkpoint_bytes(self):
        return 10**18
"""

CONFIG = """
dataset: {class: emloop_mtl.testing.FakeDataset, train: [{x: [1]}]}
model: {class: other.Vast}
hooks:
  - StopAfter: {epochs: 1}
"""

SAVING = "  - SaveLatest\n"


@pytest.fixture
def config(folder: Path) -> Path:
    (folder / "other.py").write_text(VAST)
    (folder / "vast.yaml").write_text(CONFIG + SAVING)
    return folder / "vast.yaml"


def test_it_is_refused_in_one_line_and_leaves_nothing(config: Path, command: Command) -> None:
    before = sorted(config.parent.iterdir())
    done = command("train", "vast.yaml", "--output-dir", "runs/vast")
    assert done.exit_code == 2
    assert done.stderr.startswith(
        "no room in 'runs/vast': a checkpoint will take about 1,000,000,000,000.1 MB, but the disk has "
    )
    assert done.stderr.endswith(" MB free; make room or set another output_dir\n")
    assert done.stderr.count("\n") == 1
    assert sorted(config.parent.iterdir()) == before


def test_a_run_that_was_to_be_replaced_stays(config: Path, command: Command) -> None:
    config.write_text(CONFIG)
    assert command("train", "vast.yaml", "--output-dir", "run").exit_code == 0
    (config.parent / "run" / "checkpoints").mkdir()
    before = sorted(config.parent.rglob("run/*"))
    config.write_text(CONFIG + SAVING)
    refused = command("train", "vast.yaml", "--output-dir", "run", "--rm")
    assert (refused.exit_code, "no room in 'run'" in refused.stderr) == (2, True)
    assert sorted(config.parent.rglob("run/*")) == before


def test_what_saves_nothing_needs_no_room_and_checking_looks_for_none(config: Path, command: Command) -> None:
    assert command("check", "vast.yaml").exit_code == 0
    config.write_text(CONFIG)
    done = command("train", "vast.yaml", "--output-dir", "run")
    assert done.exit_code == 0, done.stderr


def test_a_run_that_has_finished_needs_no_room(config: Path, command: Command) -> None:
    (config.parent / "other.py").write_text(VAST.replace("10**18", "0"))
    assert command("train", "vast.yaml", "--output-dir", "run").exit_code == 0
    (config.parent / "other.py").write_text(VAST)
    again = command("resume", "run")
    assert again.exit_code == 0, again.stderr
    assert "nothing is left to do" in again.stderr
