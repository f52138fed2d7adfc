"""WriteProfile: where the time goes, as lines of JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.checkpoint import newest_checkpoint
from emloop_mtl.errors import CheckpointError, ConfigError
from emloop_mtl.hooks import ComputeStats, SaveLatest, StopAfter, WriteProfile
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.saver import Saver
from emloop_mtl.testing import FakeDataset, FakeModel, SaveAndFail, run_hook

from ..clock import Announce, Clock


def read(folder: Path, name: str = "profile.jsonl") -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def test_every_epoch_tells_what_its_time_went_to(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Saver.write

    def slow(self: Saver, *arguments: Any) -> None:
        clock.now += 16
        write(self, *arguments)

    monkeypatch.setattr(Saver, "write", slow)

    def work(batch: Any) -> float:
        clock.now += 0.5
        return 1.0

    dataset = FakeDataset(train=[{"x": [1]}] * 3, valid=[{"x": [1]}] * 2)
    # SaveLatest saves at the end of each epoch, when its times are told already: they count in the next
    hooks = [Announce(clock, 0.25, 2), SaveLatest(), WriteProfile()]
    options = {"skip_zeroth_epoch": True, "extra_streams": ["valid"]}
    run_hook(*hooks, dataset=dataset, outputs={"loss": work}, epochs=2, output_dir=tmp_path, **options)
    times = {"reading/train": 0, "model/train": 1.5, "reading/valid": 0, "model/valid": 1, "hooks": 5 * 0.25 + 2 * 2}
    assert read(tmp_path) == [
        {"epoch": 1, "step": 3, "samples": 3, **times, "saving": 0},
        {"epoch": 2, "step": 6, "samples": 6, **times, "saving": 16},
    ]


def test_nothing_is_said_of_numbers_that_come_later(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    run_hook(WriteProfile(), ComputeStats(variables=["loss"]), output_dir=tmp_path)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def loop(folder: Path, *more: AbstractHook) -> MainLoop:
    dataset = FakeDataset(train=[{"x": [1.0]}] * 2)
    return MainLoop(FakeModel(), dataset, [WriteProfile("times.jsonl"), *more, StopAfter(epochs=3)], output_dir=folder)


@pytest.mark.parametrize("moment", [3, 5, 8])
def test_a_training_that_is_resumed_goes_on_after_the_last_line(moment: int, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="failed at moment"):
        loop(tmp_path, SaveAndFail(every=2, fail_at=moment)).run_training()
    with (tmp_path / "times.jsonl").open("a") as file:
        file.write('{"epoch": 99}\n{"ep')  # what came after the checkpoint
    resumed = loop(tmp_path)
    resumed.restore(newest_checkpoint(tmp_path / "checkpoints"))
    resumed.run_training()
    assert [(line["epoch"], line["step"]) for line in read(tmp_path, "times.jsonl")] == [(0, 0), (1, 2), (2, 4), (3, 6)]


@pytest.mark.parametrize("left", ['{"epoch": 0}\n', '{"epoch": 0}\n{"epoch": 1'], ids=["whole", "torn"])
def test_lines_that_are_gone_are_told_before_the_first_batch(left: str, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="failed at moment"):
        loop(tmp_path, SaveAndFail(every=2, fail_at=8)).run_training()
    (tmp_path / "times.jsonl").write_text(left)
    resumed = loop(tmp_path)
    checkpoint = newest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint.state["hooks"]["WriteProfile"] == {"step": 0, "lines": 2}  # nothing that the clock has a part in
    resumed.restore(checkpoint)
    with pytest.raises(CheckpointError, match=r"times.jsonl has 1 lines, but had 2 when the checkpoint was written"):
        resumed.run_training()


def test_the_file_of_another_training_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "profile.jsonl").write_text("{}\n")
    with pytest.raises(ConfigError, match=r"profile.jsonl exists and is of another training"):
        run_hook(WriteProfile(), output_dir=tmp_path)
    assert (tmp_path / "profile.jsonl").read_text() == "{}\n"
