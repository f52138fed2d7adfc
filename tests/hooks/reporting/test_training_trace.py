from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.checkpoint import newest_checkpoint
from emloop_mtl.errors import ConfigError
from emloop_mtl.hooks.reporting import training_trace
from emloop_mtl.hooks.reporting.training_trace import TrainingTrace
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.testing import FakeDataset, FakeModel, run_hook
from emloop_mtl.types import EpochData


def read(folder: Path) -> dict[str, Any]:
    trace: dict[str, Any] = YAML(typ="safe", pure=True).load((folder / "trace.yaml").read_text())
    return trace


class Look(AbstractHook):
    """Keep the trace as it is at the end of each epoch."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self.seen: list[dict[str, Any]] = []

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        self.seen.append(read(self._folder))


class Fail(AbstractHook):
    """Save after each epoch and fail in the second."""

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        self.main_loop.request_save("latest")
        if epoch_id == 2:
            raise RuntimeError("broken")


def test_a_finished_training_is_traced(tmp_path: Path) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    look = Look(tmp_path)
    run_hook(TrainingTrace(), look, epochs=2, output_dir=tmp_path)
    assert [(trace["epochs_done"], trace["steps_done"]) for trace in look.seen] == [(0, 0), (1, 2), (2, 4)]
    assert {(trace["train_end"], trace["exit_status"], trace["end"]) for trace in look.seen} == {(None, None, None)}
    trace = read(tmp_path)
    begin, end = (trace.pop(key).replace(tzinfo=UTC) for key in ("train_begin", "train_end"))
    assert before <= begin <= end <= datetime.now(UTC)
    assert trace == {"exit_status": 0, "end": "finished", "epochs_done": 2, "steps_done": 4, "resumed": []}


def test_a_failed_training_is_traced(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="broken"):
        run_hook(TrainingTrace(), Fail(), epochs=3, output_dir=tmp_path)
    trace = read(tmp_path)
    assert (trace["exit_status"], trace["end"], trace["epochs_done"]) == (1, "failed", 2)


def resume(folder: Path) -> None:
    streams = {"train": [{"x": [1, 2]}, {"x": [3, 4]}]}
    loop = MainLoop(FakeModel(), FakeDataset(**streams), [TrainingTrace(), Fail()], output_dir=folder)
    loop.restore(newest_checkpoint(folder / "checkpoints"))
    with pytest.raises(RuntimeError, match="broken"):
        loop.run_training()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    """Give every question for the time another answer; return the answers."""
    answers: list[datetime] = []

    def now() -> str:
        answers.append(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=len(answers)))
        return training_trace._text(answers[-1])

    monkeypatch.setattr(training_trace, "_now", now)
    return answers


def aware(times: list[datetime]) -> list[datetime]:
    return [time.replace(tzinfo=UTC) for time in times]


def test_every_resume_is_noted_even_after_a_kill(tmp_path: Path, clock: list[datetime]) -> None:
    with pytest.raises(RuntimeError, match="broken"):
        run_hook(TrainingTrace(), Fail(), epochs=3, output_dir=tmp_path)
    resume(tmp_path)
    resume(tmp_path)  # from the same checkpoint, which knows nothing of the first resume
    trace = read(tmp_path)
    begin, _, first, _, second, end = clock
    assert aware([trace["train_begin"], trace["train_end"]]) == [begin, end]
    assert aware(trace["resumed"]) == [first, second]
    assert (trace["epochs_done"], trace["end"]) == (2, "failed")


@pytest.mark.parametrize("content", [None, "{broken", "[]", "train_begin: yesterday\nresumed: []\n", "\x00"])
def test_a_lost_or_spoilt_file_does_not_hinder_a_resume(
    tmp_path: Path, clock: list[datetime], content: str | None
) -> None:
    with pytest.raises(RuntimeError, match="broken"):
        run_hook(TrainingTrace(), Fail(), epochs=3, output_dir=tmp_path)
    file = tmp_path / "trace.yaml"
    file.unlink() if content is None else file.write_text(content)
    resume(tmp_path)
    trace = read(tmp_path)
    assert aware([trace["train_begin"]]) == [clock[0]]
    assert aware(trace["resumed"]) == [clock[2]]


def test_without_a_folder_it_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"TrainingTrace needs a folder for trace\.yaml.*output_dir"):
        run_hook(TrainingTrace())


def test_a_folder_that_cannot_be_made_is_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"TrainingTrace: cannot write .*file/trace\.yaml: "):
        run_hook(TrainingTrace(), output_dir=tmp_path / "file")
    assert caplog.text == ""


def test_its_own_folder_comes_first(tmp_path: Path) -> None:
    run_hook(TrainingTrace(output_dir=str(tmp_path / "a" / "b")), output_dir=tmp_path)
    assert read(tmp_path / "a" / "b")["end"] == "finished"
    assert not (tmp_path / "trace.yaml").exists()


def test_building_it_writes_nothing(tmp_path: Path) -> None:
    MainLoop(FakeModel(), FakeDataset(train=[{"x": [1]}]), [TrainingTrace()], output_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_evaluation_leaves_it_out() -> None:
    assert TrainingTrace.training_only
