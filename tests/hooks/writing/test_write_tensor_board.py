from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.checkpoint import newest_checkpoint
from emloop_mtl.errors import CheckpointError, ConfigError
from emloop_mtl.hooks.stopping.stop_after import StopAfter
from emloop_mtl.hooks.writing.write_tensor_board import WriteTensorBoard
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.testing import FakeDataset, FakeModel, SaveAndFail, run_hook
from emloop_mtl.types import EpochData

Scalars = dict[str, list[tuple[int, float]]]


def read(folder: Path) -> Scalars:
    """Return what TensorBoard finds: tag -> step and value of each scalar."""
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    tags = accumulator.Tags()["scalars"]
    return {tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in tags}


def event_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Put(AbstractHook):
    """Write given numbers into each epoch."""

    def __init__(self, **streams: Mapping[str, Any]) -> None:
        super().__init__()
        self._streams = streams

    def provides(self) -> tuple[()]:
        return ()

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        for stream, numbers in self._streams.items():
            for name, number in numbers.items():
                epoch_data.setdefault(stream, {})[name] = number(epoch_id) if callable(number) else number


def test_tensorboard_reads_every_number_of_every_epoch(tmp_path: Path) -> None:
    put = Put(
        train={"loss": {"mean": 0.5}, "größe mit (Klammern)": 2},
        valid={"digit/digits/accuracy": lambda epoch: epoch / 4, "list": [1]},
        all={"model/all/macro_average": math.inf},
    )
    run_hook(put, WriteTensorBoard(), epochs=2, output_dir=tmp_path)
    assert read(tmp_path / "tensorboard") == {
        "train/loss/mean": [(0, 0.5), (2, 0.5), (4, 0.5)],
        "train/größe mit (Klammern)": [(0, 2.0), (2, 2.0), (4, 2.0)],
        "digit/digits/valid/accuracy": [(0, 0.0), (2, 0.25), (4, 0.5)],
        "model/all/all/macro_average": [(0, math.inf), (2, math.inf), (4, math.inf)],
    }


def test_numbers_have_single_precision(tmp_path: Path) -> None:
    run_hook(Put(train={"loss": 0.1, "huge": 1e300, "nan": math.nan}), WriteTensorBoard(), output_dir=tmp_path)
    scalars = read(tmp_path / "tensorboard")
    assert scalars["train/loss"][0][1] == pytest.approx(0.1, rel=2**-24)  # half a unit in the last of 24 bits
    assert scalars["train/huge"][0][1] == math.inf
    assert math.isnan(scalars["train/nan"][0][1])


@pytest.mark.parametrize(
    ("rates", "tags"),
    [
        ([0.5], {"learning_rate": [(0, 0.5), (2, 0.5)]}),
        ([0.5, 0.25], {"learning_rate/group_0": [(0, 0.5), (2, 0.5)], "learning_rate/group_1": [(0, 0.25), (2, 0.25)]}),
    ],
)
def test_the_learning_rate_is_written(tmp_path: Path, rates: list[float], tags: Scalars) -> None:
    model: Any = FakeModel()
    model.learning_rate = SimpleNamespace(current=rates)
    run_hook(WriteTensorBoard("curves"), model=model, output_dir=tmp_path)
    assert read(tmp_path / "curves") == tags


def test_an_epoch_can_be_read_when_its_event_is_over(tmp_path: Path) -> None:
    seen = []

    class Look(AbstractHook):
        def after_epoch_profile(self, epoch_id: int, profile: Any, streams: list[str]) -> None:
            seen.append(len(read(tmp_path / "tensorboard")["train/loss"]))

    run_hook(Put(train={"loss": 1.0}), WriteTensorBoard(), Look(), epochs=2, output_dir=tmp_path)
    assert seen == [1, 2, 3]


# ------------------------------------------------------------------------------------------------------------- resuming


def make_loop(folder: Path, every: int = 1, fail_at: int | None = None) -> MainLoop:
    dataset = FakeDataset(train=[{"x": [1]}, {"x": [2]}], valid=[{"x": [6]}])
    put = Put(train={"loss": lambda epoch: epoch / 8}, valid={"loss": lambda epoch: epoch / 2})
    hooks = [put, WriteTensorBoard(), SaveAndFail(every, fail_at), StopAfter(epochs=3)]
    return MainLoop(FakeModel(), dataset, hooks, extra_streams=["valid"], output_dir=folder)


EXPECTED = {
    "train/loss": [(0, 0.0), (2, 0.125), (4, 0.25), (6, 0.375)],
    "valid/loss": [(0, 0.0), (2, 0.5), (4, 1.0), (6, 1.5)],
}


def run_and_kill(folder: Path, every: int, fail_at: int, resumed: bool = False) -> None:
    loop = make_loop(folder, every, fail_at)
    if resumed:
        loop.restore(newest_checkpoint(folder / "checkpoints"))
    with pytest.raises(RuntimeError, match="failed at moment"):
        loop.run_training()


def resume(folder: Path) -> MainLoop:
    loop = make_loop(folder)
    loop.restore(newest_checkpoint(folder / "checkpoints"))
    return loop


@pytest.mark.parametrize("fail_at", range(6, 17))
def test_a_training_that_is_killed_and_resumed_writes_the_same(tmp_path: Path, fail_at: int) -> None:
    run_and_kill(tmp_path, every=5, fail_at=fail_at)  # an epoch has 4 events, so that some are written after the save
    resume(tmp_path).run_training()
    assert read(tmp_path / "tensorboard") == EXPECTED


def test_a_training_may_be_killed_often(tmp_path: Path) -> None:
    run_and_kill(tmp_path, every=5, fail_at=9)
    for _ in range(3):  # each of them ends an epoch before it is killed, and saves nothing
        run_and_kill(tmp_path, every=100, fail_at=8, resumed=True)
    run_and_kill(tmp_path, every=1, fail_at=5, resumed=True)
    resume(tmp_path).run_training()
    assert read(tmp_path / "tensorboard") == EXPECTED


def test_the_half_written_record_of_a_power_failure_is_cut(tmp_path: Path) -> None:
    run_and_kill(tmp_path, every=1, fail_at=9)
    (file,) = (tmp_path / "tensorboard").iterdir()
    with file.open("ab") as events:
        events.write(b"\x18\x00\x00")
    resume(tmp_path).run_training()
    assert read(tmp_path / "tensorboard") == EXPECTED


class LookAtTheDisk(AbstractHook):
    """Save every epoch, and note once that is done which files are not on disk as they are."""

    def __init__(self, folder: Path, synced: Mapping[int, int]) -> None:
        super().__init__()
        self.notes: list[list[str]] = []
        self._folder = folder
        self._synced = synced

    def requires(self) -> tuple[str, ...]:
        return ()

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        self.main_loop.request_save("latest")
        self.main_loop.when_saved(self.look)

    def look(self) -> None:
        found = [(path, path.stat()) for path in self._folder.iterdir()]
        self.notes.append([path.name for path, now in found if self._synced.get(now.st_ino) != now.st_size])


def test_records_are_on_disk_before_a_checkpoint_that_speaks_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: dict[int, int] = {}
    fsync = os.fsync

    def note(handle: int) -> None:
        fsync(handle)
        synced[os.fstat(handle).st_ino] = os.fstat(handle).st_size

    monkeypatch.setattr(os, "fsync", note)
    look = LookAtTheDisk(tmp_path / "tensorboard", synced)
    hooks = [Put(train={"x": float}), WriteTensorBoard(), look]
    run_hook(*hooks, epochs=2, output_dir=tmp_path)
    look.look()
    assert look.notes == [[]] * 4
    assert synced


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "tensorboard"
    folder.mkdir()
    (folder / "events.out.tfevents.0000000000.profiler").touch()
    run_and_kill(tmp_path, every=3, fail_at=9)
    (folder / "events.out.tfevents.0000000007.emloop_mtl").touch()
    (folder / "notes.txt").touch()
    resume(tmp_path).run_training()
    assert event_files(folder) == [
        "events.out.tfevents.0000000000.profiler",
        "events.out.tfevents.0000000001.emloop_mtl",
        "events.out.tfevents.0000000008.emloop_mtl",
        "notes.txt",
    ]


@pytest.mark.parametrize("remaining", [None, 10])
def test_a_file_that_was_cut_or_removed_is_named(tmp_path: Path, remaining: int | None) -> None:
    run_and_kill(tmp_path, every=1, fail_at=9)
    (file,) = (tmp_path / "tensorboard").iterdir()
    content = file.read_bytes()
    file.unlink() if remaining is None else file.write_bytes(content[:remaining])
    message = (
        rf"WriteTensorBoard: .*{file.name} has {remaining or 0} bytes, but had \d+ when the checkpoint was written"
    )
    with pytest.raises(CheckpointError, match=message):
        resume(tmp_path).run_training()


def test_the_state_outlives_the_file(tmp_path: Path) -> None:
    hook = WriteTensorBoard()
    run_hook(Put(train={"loss": 1.0}), hook, output_dir=tmp_path)
    (file,) = (tmp_path / "tensorboard").iterdir()
    assert hook.state_dict() == {"step": 2, "files": {file.name: file.stat().st_size}, "config": None}


def test_a_second_training_in_the_same_process_goes_on(tmp_path: Path) -> None:
    loop = make_loop(tmp_path)
    loop.run_training()
    loop.run_evaluation("valid")
    assert read(tmp_path / "tensorboard")["valid/loss"] == [*EXPECTED["valid/loss"], (6, 1.5)]


# --------------------------------------------------------------------------------------------------------------- errors


def test_another_training_is_not_written_over(tmp_path: Path) -> None:
    run_hook(Put(train={"loss": 1.0}), WriteTensorBoard(), output_dir=tmp_path)
    before = read(tmp_path / "tensorboard")
    with pytest.raises(ConfigError, match=r"events\..* exists and is of another training; .*another folder") as info:
        run_hook(Put(train={"loss": 1.0}), WriteTensorBoard(), output_dir=tmp_path)
    assert info.value.path == ("folder",)
    assert read(tmp_path / "tensorboard") == before


def test_a_training_without_records_leaves_no_file(tmp_path: Path) -> None:
    class Refuse(AbstractHook):
        def before_training(self) -> None:
            raise ConfigError("not today")

    with pytest.raises(ConfigError, match="not today"):
        run_hook(WriteTensorBoard(), Refuse(), output_dir=tmp_path)
    assert event_files(tmp_path / "tensorboard") == []


@pytest.mark.parametrize("folder", ["file", "file/curves"])
def test_a_folder_that_cannot_be_made_is_a_config_error(
    tmp_path: Path, folder: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"WriteTensorBoard: cannot write .*file.*: \w+"):
        run_hook(WriteTensorBoard(folder), output_dir=tmp_path)
    assert caplog.text == ""


def test_without_a_folder_it_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"folder 'tensorboard' is relative to the output folder.* output_dir"):
        run_hook(WriteTensorBoard())


def test_building_it_writes_nothing(tmp_path: Path) -> None:
    MainLoop(FakeModel(), FakeDataset(train=[{"x": [1]}]), [WriteTensorBoard()], output_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [{"folder": ""}, {"foldr": "a"}])
def test_wrong_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"must be a path|did you mean 'folder'"):
        WriteTensorBoard(**arguments)
