"""What all writers do alike: losses of steps, failures, the config."""

from __future__ import annotations

import csv
import errno
import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.checkpoint import newest_checkpoint
from emloop_mtl.config.create import create_training
from emloop_mtl.errors import ConfigError
from emloop_mtl.hooks import ComputeStats, StopAfter, WriteCSV, WriteJSON, WriteTensorBoard, WriteWandb
from emloop_mtl.hooks.writing import step_losses
from emloop_mtl.hooks.writing.abstract_writer import AbstractWriter
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.testing import FakeDataset, FakeModel, SaveAndFail, run_hook
from emloop_mtl.types import Position

LOSSES = {"loss": lambda batch: torch.tensor(batch["x"][0])}
FILES = (WriteJSON, WriteCSV, WriteTensorBoard)

Records = dict[str, list[tuple[int, float]]]


def data(batches: int = 5) -> FakeDataset:
    return FakeDataset(train=[{"x": [float(n)]} for n in range(batches)])


def read_json(folder: Path) -> Records:
    found: Records = {}
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        for name in record.keys() - {"epoch", "step", "samples"}:
            found.setdefault(name, []).append((record["step"], record[name]))
    return found


def read_csv(folder: Path) -> Records:
    found: Records = {}
    with (folder / "training.csv").open() as file:
        for row in csv.DictReader(file):
            for name in row.keys() - {"epoch", "step", "samples"}:
                if row[name]:
                    found.setdefault(name, []).append((int(row["step"]), float(row[name])))
    return found


def read_events(folder: Path) -> Records:
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


READERS: dict[type[AbstractWriter], Callable[[Path], Records]] = {
    WriteJSON: read_json,
    WriteCSV: read_csv,
    WriteTensorBoard: read_events,
}


# ------------------------------------------------------------------------------------------------ the losses of steps


def make_loop(folder: Path, fail_at: int | None = None) -> MainLoop:
    hooks = [ComputeStats(["x"]), *(kind(steps=2) for kind in FILES), SaveAndFail(2, fail_at), StopAfter(epochs=3)]
    return MainLoop(FakeModel(LOSSES), data(), hooks, output_dir=folder)


@pytest.mark.parametrize("fail_at", [None, 8, 11, 17])
def test_several_writers_have_the_same_numbers_at_the_same_steps(tmp_path: Path, fail_at: int | None) -> None:
    if fail_at is not None:
        with pytest.raises(RuntimeError, match="failed at moment"):
            make_loop(tmp_path, fail_at).run_training()
    loop = make_loop(tmp_path)
    if fail_at is not None:
        loop.restore(newest_checkpoint(tmp_path / "checkpoints"))
    loop.run_training()
    expected = {
        "train/x/mean": [(0, 2.0), (5, 2.0), (10, 2.0), (15, 2.0)],
        # means of two steps each, going on from epoch to epoch: 0 1, 2 3, 4 0, 1 2, 3 4, 0 1, 2 3
        "train/loss": [(2, 0.5), (4, 2.5), (6, 2.0), (8, 1.5), (10, 3.5), (12, 0.5), (14, 2.5)],
    }
    for kind in FILES:
        assert READERS[kind](tmp_path) == expected, kind
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    epochs = {1: [2, 4, 5], 2: [6, 8, 10, 10], 3: [12, 14, 15]}  # the losses of a step are of the epoch under way
    assert [(line["epoch"], line["step"]) for line in lines] == [
        (0, 0),
        *((epoch, step) for epoch, steps in epochs.items() for step in steps),
    ]


def test_no_step_waits_for_losses_that_are_due(
    tmp_path: Path, no_waiting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_losses, "MOST_SECONDS", float("inf"))  # on a machine that is very slow
    hooks = [*(kind(steps=1) for kind in FILES), StopAfter(epochs=1)]
    loop = MainLoop(FakeModel(LOSSES), data(50), hooks, output_dir=tmp_path)
    after_batch = loop.hooks.after_batch

    def guarded(stream_name: str, batch_data: Any) -> Any:
        with no_waiting():
            return after_batch(stream_name, batch_data)

    monkeypatch.setattr(loop.hooks, "after_batch", guarded)
    loop.run_training()
    for kind in FILES:
        assert READERS[kind](tmp_path)["train/loss"] == [(n + 1, float(n)) for n in range(50)]


@pytest.mark.parametrize("fail_at", [None, 9])
def test_steps_never_go_back(fail_at: int | None, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Over the zeroth epoch, a resume, and evaluations by hand, one of which tells an earlier position."""
    if fail_at is not None:
        with pytest.raises(RuntimeError, match="failed at moment"):
            make_loop(tmp_path, fail_at).run_training()
    loop = make_loop(tmp_path)
    if fail_at is not None:
        loop.restore(newest_checkpoint(tmp_path / "checkpoints"))
    loop.run_training()
    loop.run_evaluation("train")
    loop.run_evaluation("train", Position(1, 5, 1, 5))
    warned = [each.message for each in caplog.records if "is not written" in each.message]
    text = "an evaluation at step 5 is not written, since there are records up to step 15"
    assert warned == [f"{kind.__name__}: {text}" for kind in FILES]
    for kind in FILES:
        found = READERS[kind](tmp_path)
        assert [step for step, _ in found["train/x/mean"]] == [0, 5, 10, 15, 15]
        assert [step for step, _ in found["train/loss"]] == [2, 4, 6, 8, 10, 12, 14]
    lines = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    with (tmp_path / "training.csv").open() as file:
        rows = [int(row["step"]) for row in csv.DictReader(file)]
    assert lines == rows == sorted(lines)


def test_the_learning_rate_stands_in_every_record(tmp_path: Path) -> None:
    hooks = [ComputeStats(["x"]), *(kind(steps=2) for kind in FILES), StopAfter(epochs=1)]
    model = FakeModel(LOSSES)
    model.learning_rate = SimpleNamespace(current=[0.5, 0.25])  # type: ignore[attr-defined]
    only = WriteCSV("some.csv", variables=["x"])
    both = WriteCSV("both.csv", variables=["x", "learning_rate"])
    only.name, both.name = "WriteSome", "WriteBoth"
    MainLoop(model, data(4), [*hooks, only, both], output_dir=tmp_path).run_training()
    steps = [0, 2, 4, 4]
    for kind in FILES:
        found = READERS[kind](tmp_path)
        for group, rate in enumerate(model.learning_rate.current):  # type: ignore[attr-defined]
            assert found[f"learning_rate/group_{group}"] == [(step, rate) for step in steps]
    headings = {name: (tmp_path / name).read_text().splitlines()[0] for name in ("some.csv", "both.csv")}
    assert headings["some.csv"] == "epoch,step,samples,train/x/mean"
    assert headings["both.csv"] == f"{headings['some.csv']},learning_rate/group_0,learning_rate/group_1"
    with pytest.raises(ConfigError, match="requires the number 'learning_rate', which no hook before it provides"):
        run_hook(ComputeStats(["x"]), WriteCSV(variables=["learning_rate"]), output_dir=tmp_path / "none")


def test_losses_of_steps_count_samples_that_have_a_label(
    make_model: Callable[..., Any], make_dataset: Callable[..., Any], tmp_path: Path
) -> None:
    seen: list[tuple[int, float]] = []

    class Look(AbstractHook):
        def after_batch(self, stream_name: str, batch_data: Any) -> None:
            rows = batch_data.rows.get("size")
            seen.append((batch_data.size if rows is None else len(rows), float(batch_data["size/loss"])))

    hooks = [WriteJSON(steps=3), Look(), StopAfter(epochs=1)]
    MainLoop(make_model(), make_dataset(), hooks, output_dir=tmp_path, skip_zeroth_epoch=True).run_training()
    assert sorted(count for count, _ in seen) == [3, 4, 4]
    mean = sum(count * loss for count, loss in seen) / 11
    assert read_json(tmp_path)["train/size/loss"] == [(3, pytest.approx(mean, rel=1e-12))]  # sums in float64


def test_a_loss_for_each_sample_is_none_of_a_step(tmp_path: Path) -> None:
    run_hook(WriteJSON(steps=1), outputs={"loss": lambda batch: torch.ones(2)}, output_dir=tmp_path)
    assert "train/loss" not in (tmp_path / "metrics.jsonl").read_text()


@pytest.mark.parametrize(("bound", "most"), [("MOST_SECONDS", 0.0), ("MOST_WAITING", 2)], ids=["time", "memory"])
def test_a_long_epoch_can_be_watched(bound: str, most: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_losses, "MOST_SECONDS", float("inf"))
    monkeypatch.setattr(step_losses, bound, most)
    seen: list[tuple[int, int]] = []
    fetched: list[bool] = []
    fetch = step_losses.fetch_numbers

    def note(losses: Any) -> Any:
        fetched.append(True)
        return fetch(losses)

    monkeypatch.setattr(step_losses, "fetch_numbers", note)

    class Look(AbstractHook):
        def after_batch(self, stream_name: str, batch_data: Any) -> None:
            seen.append((len(read_json(tmp_path).get("train/loss", ())), len(fetched)))

    loop = MainLoop(
        FakeModel(LOSSES),
        data(6),
        [WriteJSON(steps=2), Look(), StopAfter(epochs=1)],
        output_dir=tmp_path,
        skip_zeroth_epoch=True,
    )
    loop.run_training()
    assert seen == [(count, count) for count in (0, 1, 1, 2, 2, 3)]  # fetched no more often than is due


@pytest.mark.parametrize("kind", [*FILES, WriteWandb], ids=lambda kind: kind.__name__)
def test_a_writer_without_steps_does_not_act_at_batches(kind: type[AbstractWriter], tmp_path: Path) -> None:
    for steps, acts in ((None, False), (1, True)):
        writer: Any = kind(steps=steps)  # type: ignore[call-arg]
        loop = MainLoop(FakeModel(), data(), [writer], output_dir=tmp_path)
        assert (writer in loop.hooks.acting_at("after_batch")) == acts
        assert list(writer.requires_in_training()) == (["loss"] if acts else [])


def test_a_table_of_some_variables_has_their_losses_only(tmp_path: Path) -> None:
    model = FakeModel(LOSSES | {"digit/loss": 1.0})
    with pytest.raises(ConfigError, match="steps writes losses, but variables lists none: add 'loss'") as info:
        WriteCSV(variables=["x"], steps=1)
    assert info.value.path == ("steps",)
    hook = WriteCSV(steps=1, variables=["x", "loss"], on_missing_variable="default")
    run_hook(ComputeStats(["x"]), hook, model=model, dataset=data(2), output_dir=tmp_path)
    assert read_csv(tmp_path) == {"train/x/mean": [(0, 0.5), (2, 0.5)], "train/loss": [(1, 0.0), (2, 1.0)]}


# ---------------------------------------------------------------------------------------------------------- failures


class Breaks(AbstractWriter):
    """A writer whose medium is full at some steps."""

    def __init__(self, full: tuple[int, ...], error: Exception | None = None, **kwargs: Any) -> None:
        super().__init__("path", "numbers", **kwargs)
        self.full, self.error = full, error
        self.written: list[int] = []
        self.is_open = False

    def open(self) -> None:
        self.is_open = True

    def write(self, position: Position, numbers: Mapping[str, float]) -> None:
        if position.step in self.full:
            raise self.error or OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.written.append(position.step)

    def close(self) -> None:
        self.is_open = False


def test_a_failure_is_named_and_ends_the_training_or_does_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(OSError, match=r"\[Errno 28\] Breaks: No space left on device: '.*numbers'") as info:
        run_hook(Breaks((4,)), epochs=4, output_dir=tmp_path)
    assert info.value.__notes__ == ["; with 'on_failure: warn' the training would go on without these records"]
    hook = Breaks((4, 6), on_failure="warn")
    caplog.clear()
    record = run_hook(hook, epochs=4, output_dir=tmp_path)
    assert (record.main_loop.end, hook.written, hook.is_open) == ("finished", [0, 2, 8], False)
    first, second = [each.message for each in caplog.records if each.levelno >= logging.WARNING]
    assert first.startswith("[Errno 28] Breaks: No space left on device")
    assert first.endswith("; the training goes on, and records are missing from epoch 2, step 4 on")
    assert second == f"Breaks: {tmp_path / 'numbers'} can be written again"


def test_what_fails_otherwise_is_named_too(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"^Breaks: cannot write .*numbers: KeyError: 'a'\n"):
        run_hook(Breaks((2,), KeyError("a")), output_dir=tmp_path)
    with pytest.raises(ConfigError, match="of the user"):
        run_hook(Breaks((2,), ConfigError("of the user"), on_failure="warn"), output_dir=tmp_path)


def test_a_device_that_fails_is_no_failure_of_the_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(values: Any) -> Any:
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(step_losses, "fetch_numbers", fail)
    with pytest.raises(RuntimeError, match="^the device is gone"):
        run_hook(WriteJSON(steps=1, on_failure="warn"), output_dir=tmp_path)


class Full:
    """A file on a disk that has room for some more bytes only, from some moment on."""

    def __init__(self, file: Any, room: int) -> None:
        self.file, self.room = file, room

    def write(self, part: memoryview) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        part = part[: self.room]
        self.room -= len(part)
        return int(self.file.write(part))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


class Fill(AbstractHook):
    """Fill the disk in the first epoch, and make room in the third."""

    def __init__(self, writer: Any) -> None:
        super().__init__()
        self.writer = writer

    def requires(self) -> tuple[()]:
        return ()

    def provides(self) -> tuple[()]:
        return ()

    def before_epoch(self, epoch_id: int, train_streams: list[str], eval_streams: list[str]) -> None:
        records = self.writer._file
        if epoch_id == 1:
            records._file = Full(records._file, room=5)
        elif epoch_id == 3 and isinstance(records._file, Full):
            records._file = records._file.file


@pytest.mark.parametrize("kind", [WriteJSON, WriteCSV], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("fail_at", [None, 9, 10, 12])
def test_half_a_record_on_a_full_disk_is_taken_away(
    kind: type[AbstractWriter], fail_at: int | None, tmp_path: Path
) -> None:
    def loop(fail_at: int | None = None) -> MainLoop:
        writer = kind(on_failure="warn")  # type: ignore[call-arg]
        hooks = [ComputeStats(["x"]), writer, Fill(writer), SaveAndFail(1, fail_at), StopAfter(epochs=4)]
        return MainLoop(FakeModel(LOSSES), data(2), hooks, output_dir=tmp_path)

    steps = [0, 6, 8]
    if fail_at is not None:
        with pytest.raises(RuntimeError, match="failed at moment"):
            loop(fail_at).run_training()
        resumed = loop()
        resumed.restore(newest_checkpoint(tmp_path / "checkpoints"))
        resumed.run_training()
        steps = [0, 6, 8] if fail_at > 9 else [0, 4, 6, 8]  # there is room again in the new process
    else:
        loop().run_training()
    assert READERS[kind](tmp_path) == {"train/x/mean": [(step, 0.5) for step in steps]}


@pytest.fixture
def full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)


@pytest.mark.usefixtures("full_disk")
@pytest.mark.parametrize("kind", [*FILES, WriteWandb], ids=lambda kind: kind.__name__)
def test_a_full_disk_is_told_before_the_first_batch(kind: type[AbstractWriter], tmp_path: Path) -> None:
    message = rf"{kind.__name__}: no room for .*: it needs 0\.1 MB, but the disk has 0\.0 MB free; make room"
    with pytest.raises(ConfigError, match=message):
        run_hook(kind(on_failure="warn"), output_dir=tmp_path / "run")  # type: ignore[call-arg]
    assert not (tmp_path / "run" / "wandb").exists()


# --------------------------------------------------------------------------------------------------------- the config


def config(*writers: Any, epochs: int = 1) -> dict[str, Any]:
    return {
        "seed": 7,
        "dataset": {"class": "emloop_mtl.testing.FakeDataset", "train": [{"x": [1.0]}]},
        "model": {"class": "emloop_mtl.testing.FakeModel", "outputs": {"größe": 0.5}},
        "hooks": [{"ComputeStats": {"variables": ["x"]}}, *writers, "SaveLatest", {"StopAfter": {"epochs": epochs}}],
    }


def texts(folder: Path) -> list[tuple[int, Any]]:
    """Return step and content of the configs that TensorBoard shows."""
    events = EventAccumulator(str(folder))
    events.Reload()
    found = events.Tensors("config/text_summary") if events.Tags()["tensors"] else []
    return [(event.step, json.loads(event.tensor_proto.string_val[0])) for event in found]


def test_files_of_records_have_the_config_beside_them_where_the_run_has_none(tmp_path: Path) -> None:
    writers = ({"WriteJSON": {"path": "a/numbers.jsonl"}}, {"WriteCSV": {"path": str(tmp_path / "elsewhere.csv")}})
    run = tmp_path / "run"
    training = create_training(config(*writers), run)
    training.main_loop.run_training()
    for file in (run / "a" / "numbers.config.json", tmp_path / "elsewhere.config.json"):
        assert json.loads(file.read_text(encoding="utf-8")) == training.config.data
        file.unlink()
    (run / "config.yaml").touch()  # as emloop-mtl train writes it
    training = create_training(config(*writers, epochs=2), run)
    training.main_loop.restore(newest_checkpoint(run / "checkpoints"))
    training.main_loop.run_training()
    assert json.loads((tmp_path / "elsewhere.config.json").read_text(encoding="utf-8")) == training.config.data
    assert list((run / "a").iterdir()) == [run / "a" / "numbers.jsonl"]


def test_tensorboard_shows_the_config_and_each_change_of_it(tmp_path: Path) -> None:
    shown: list[Any] = []
    for epochs in (1, 1, 3):
        training = create_training(config("WriteTensorBoard", epochs=epochs), tmp_path)
        if shown:
            training.main_loop.restore(newest_checkpoint(tmp_path / "checkpoints"), stay_finished=epochs == 1)
        training.main_loop.run_training()
        shown.append(training.config.data)
    assert texts(tmp_path / "tensorboard") == [(0, shown[0]), (2, shown[2])]


def test_a_training_without_a_config_writes_none(tmp_path: Path) -> None:
    run_hook(ComputeStats(["x"]), *(kind() for kind in FILES), output_dir=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.jsonl", "training.csv", "tensorboard"}
    assert texts(tmp_path / "tensorboard") == []
