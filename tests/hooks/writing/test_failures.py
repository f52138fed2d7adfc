"""What hooks do that cannot write: told at the start, named in the middle, and gone on with where that is asked for."""

from __future__ import annotations

import csv
import errno
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.checkpoint import newest_checkpoint
from emloop_mtl.data.batch import Batch
from emloop_mtl.errors import ConfigError
from emloop_mtl.hooks import (
    Evaluate,
    LogitsToCsv,
    PlotLines,
    SaveConfusionMatrix,
    SaveFile,
    SequenceToCsv,
    StopAfter,
    TrainingTrace,
    WriteJSON,
    WritePredictions,
)
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.testing import FakeDataset, FakeModel, SaveAndFail, run_hook

from .test_abstract_writer import Full

BATCHES = [{"x": [0, 0], "id": ["a", "b"], "ys": [[1, 2], [3, 4]], "label": [0, 1], "pred": [0, 1]}]

HOOKS: dict[str, Callable[..., AbstractHook]] = {
    "LogitsToCsv": lambda **given: LogitsToCsv("ys", ["one", "two"], "id", "t.csv", **given),
    "SequenceToCsv": lambda **given: SequenceToCsv(["ys"], "id", "t.csv", **given),
    "PlotLines": lambda **given: PlotLines(["ys"], id_variable="id", streams=["valid"], example_count=1, **given),
    "SaveConfusionMatrix": lambda **given: SaveConfusionMatrix(
        labels_name="label", predictions_name="pred", streams=["valid"], **given
    ),
    "TrainingTrace": TrainingTrace,
}
"""Hooks that write files, each with all that it needs but for ``on_failure``."""


def train(hook: AbstractHook, folder: Path, *more: AbstractHook, epochs: int = 2) -> Any:
    dataset = FakeDataset(train=BATCHES, valid=BATCHES)
    options: dict[str, Any] = {"extra_streams": ["valid"], "on_unused_sources": "ignore", "output_dir": folder}
    return run_hook(*more, hook, dataset=dataset, epochs=epochs, **options)


class Block(AbstractHook):
    """Put a file where a folder has to be, or a folder where a file has to be, before one of the epochs."""

    def __init__(self, path: Path, epoch: int) -> None:
        super().__init__()
        self._path, self._epoch = path, epoch

    def requires(self) -> tuple[str, ...]:
        return ()

    def before_epoch(self, epoch_id: int, train_streams: list[str], eval_streams: list[str]) -> None:
        if epoch_id == self._epoch:
            self._path.parent.mkdir(exist_ok=True, parents=True)
            if self._path.suffix:
                self._path.unlink(missing_ok=True)
                self._path.mkdir()
            else:
                self._path.write_text("")
        elif epoch_id == self._epoch + 1 and self._path.exists():
            self._path.rmdir() if self._path.is_dir() else self._path.unlink()


BLOCKED = {
    "PlotLines": "visual/epoch_1",
    "SaveConfusionMatrix": "confusion_matrix_epoch_1_valid.png",
    "TrainingTrace": "trace.yaml",
}


@pytest.mark.parametrize("name", BLOCKED)
def test_a_file_that_cannot_be_written_ends_the_training_or_is_told_of(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    with pytest.raises(OSError, match=rf"{name}: .*{BLOCKED[name]}") as caught:
        train(HOOKS[name](), run, Block(run / BLOCKED[name], 1))
    (note,) = caught.value.__notes__
    assert note.startswith("; with 'on_failure: warn' the training would go on without these ")
    caplog.clear()
    run = tmp_path / "again"
    record = train(HOOKS[name](on_failure="warn"), run, Block(run / BLOCKED[name], 1))
    assert record.main_loop.end == "finished"
    first, second = [each.message for each in caplog.records if each.levelno >= logging.WARNING]
    assert f"{name}: " in first
    assert "; the training goes on, and " in first
    assert first.endswith(" are missing from epoch 1, step 1 on")
    assert second.startswith(f"{name}: ")
    assert second.endswith("can be written again")
    written = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    if name == "TrainingTrace":
        assert written == {"trace.yaml"}
        assert "epochs_done: 2" in (run / "trace.yaml").read_text()
    else:
        assert [path for path in written if "epoch_1" in path] == []
        assert {path.replace("epoch_0", "epoch_2") for path in written} == {p for p in written if "epoch_2" in p}


class Fill(AbstractHook):
    """Fill the disk of a hook's table in the first training epoch, and make room in the second."""

    def __init__(self, hook: Any) -> None:
        super().__init__()
        self._hook = hook

    def requires(self) -> tuple[str, ...]:
        return ()

    def before_epoch(self, epoch_id: int, train_streams: list[str], eval_streams: list[str]) -> None:
        records = self._hook._file
        if epoch_id == 1:
            records._file = Full(records._file, room=4)
        elif epoch_id == 2:
            records._file = records._file.file


@pytest.mark.parametrize("name", ["LogitsToCsv", "SequenceToCsv"])
def test_a_table_goes_on_without_the_rows_that_had_no_room(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = HOOKS[name]()
    train(whole, tmp_path / "whole")
    with (tmp_path / "whole" / "t.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    hook = HOOKS[name]()
    with pytest.raises(OSError, match=rf"{name}: No space left on device: .*t\.csv") as caught:
        train(hook, tmp_path / "error", Fill(hook))
    assert caught.value.__notes__ == ["; with 'on_failure: warn' the training would go on without these rows"]
    caplog.clear()
    hook = HOOKS[name](on_failure="warn")
    train(hook, tmp_path / "warn", Fill(hook))
    with (tmp_path / "warn" / "t.csv").open(newline="") as file:
        found = list(csv.reader(file))
    each = (len(rows) - 1) // 3  # rows of an epoch, all three of which are alike
    assert found == rows[: 1 + 2 * each]
    warned = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert "rows are missing from epoch 0, step 1 on" in warned[0]
    assert warned[1:] == [f"{name}: {tmp_path / 'warn' / 't.csv'} can be written again"]


def test_half_a_row_is_taken_away_at_once(tmp_path: Path) -> None:
    """A training that ends with a full disk leaves whole rows."""
    hook = HOOKS["LogitsToCsv"](on_failure="warn")
    train(hook, tmp_path, Fill(hook), epochs=1)
    assert (tmp_path / "t.csv").read_text() == "id,one,two\n" + "a,1,2\nb,3,4\n" * 2


# ------------------------------------------------------------------------------------------------------ predictions


class BreakFile(AbstractHook):
    """Let writes to the file of a stream fail, from its second batch on in some epoch."""

    def __init__(self, writer: Any, stream: str, epoch: int) -> None:
        super().__init__()
        self._writer, self._stream, self._epoch = writer, stream, epoch

    def requires(self) -> tuple[str, ...]:
        return ()

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        file = self._writer._file
        if stream_name == self._writer._stream == self._stream and self._writer._epoch == self._epoch and file:
            file._file = _NoRoom(file._file)


class _NoRoom:
    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@pytest.fixture
def make_loop(make_model: Callable[..., Any], make_dataset: Callable[..., Any], tmp_path: Path) -> Any:
    """Make a main loop of two epochs that evaluates two streams of three batches each."""

    def make(*hooks: AbstractHook, folder: str = "run") -> MainLoop:
        listed = [Evaluate(["valid", "test"]), *hooks, StopAfter(epochs=2)]
        return MainLoop(make_model(), make_dataset(), listed, output_dir=tmp_path / folder)

    return make


def predictions(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "predictions").iterdir()}


@pytest.mark.parametrize("stream", ["valid", "test"])
def test_the_other_files_are_written_where_one_cannot_be(
    stream: str, make_loop: Callable[..., MainLoop], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_loop(WritePredictions(), folder="whole").run_training()
    whole = predictions(tmp_path / "whole")
    writer = WritePredictions()
    with pytest.raises(OSError, match=r"WritePredictions: No space left on device: .*_1\.jsonl\.partial"):
        make_loop(BreakFile(writer, stream, 1), writer, folder="error").run_training()
    caplog.clear()
    writer = WritePredictions(on_failure="warn")
    make_loop(BreakFile(writer, stream, 1), writer).run_training()
    lost = f"{stream}_1.jsonl"
    assert predictions(tmp_path / "run") == {name: rows for name, rows in whole.items() if name != lost}
    warned = [record.message for record in caplog.records if "WritePredictions" in record.message]
    assert warned[0].endswith("; the training goes on, and predictions are missing from epoch 0, step 3 on")
    assert warned[1].endswith(f"{'test_1' if stream == 'valid' else 'valid_2'}.jsonl can be written again")


@pytest.mark.parametrize("moment", [14, 16, 18, 20, 21])
def test_a_file_that_was_lost_stays_so_after_a_resume(
    moment: int, make_loop: Callable[..., MainLoop], tmp_path: Path
) -> None:
    """Saved at every batch and failed in the epoch of the failure: in the stream that is lost and after it."""
    make_loop(WritePredictions(), folder="whole").run_training()
    whole = predictions(tmp_path / "whole")
    writer = WritePredictions(on_failure="warn")
    with pytest.raises(RuntimeError, match="failed at moment"):
        make_loop(BreakFile(writer, "valid", 1), writer, SaveAndFail(fail_at=moment + 1)).run_training()
    loop = make_loop(WritePredictions(on_failure="warn"), SaveAndFail(every=100))
    loop.restore(newest_checkpoint(tmp_path / "run" / "checkpoints"))
    loop.run_training()
    is_lost = moment > 14  # the second batch of the stream, which is the first that cannot be written
    expected = {name: rows for name, rows in whole.items() if not (is_lost and name == "valid_1.jsonl")}
    found = predictions(tmp_path / "run")
    assert {name: rows for name, rows in found.items() if not name.startswith(".")} == expected


def test_a_name_that_is_taken_loses_one_file(make_loop: Callable[..., MainLoop], tmp_path: Path) -> None:
    (tmp_path / "run" / "predictions" / "test_1.jsonl").mkdir(parents=True)
    make_loop(WritePredictions(on_failure="warn")).run_training()
    found = {path.name for path in (tmp_path / "run" / "predictions").iterdir() if path.is_file()}
    assert found == {"valid_0.jsonl", "test_0.jsonl", "valid_1.jsonl", "valid_2.jsonl", "test_2.jsonl"}


# -------------------------------------------------------------------------------------------------------- the start


@pytest.fixture
def full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)


def save_file(**given: Any) -> SaveFile:
    return SaveFile([__file__], **given)


AT_START = {name: make for name, make in HOOKS.items() if name != "TrainingTrace"} | {"SaveFile": save_file}


@pytest.mark.usefixtures("full_disk")
@pytest.mark.parametrize("name", AT_START)
def test_a_full_disk_is_told_before_the_first_batch(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"{name}: no room for .*: it needs 0\.1 MB, but the disk has 0\.0 MB free"):
        train(AT_START[name](), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", AT_START)
def test_a_folder_that_cannot_be_written_is_told_before_the_first_batch(name: str, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where the folder should be")
    with pytest.raises(ConfigError, match=rf"{name}: cannot write .*run.*: Not a directory") as caught:
        train(AT_START[name](), tmp_path / "run")
    assert len(caught.value.path) == 1


def test_a_folder_that_cannot_be_written_is_told_of_predictions_as_well(make_loop: Callable[..., MainLoop]) -> None:
    loop = make_loop(WritePredictions(path="{stream}/{epoch}.csv"))
    Path(loop.output_dir or "").write_text("")
    with pytest.raises(ConfigError, match=r"WritePredictions: cannot write .*\{stream\}/\{epoch\}\.csv: Not a dir"):
        loop.run_training()


@pytest.mark.parametrize("name", [*HOOKS, "WritePredictions"])
def test_what_to_do_about_a_failure_is_one_of_two(name: str) -> None:
    make = HOOKS.get(name, WritePredictions)
    with pytest.raises(ConfigError, match=f"{name}: on_failure 'ignore' is unknown; known are: error, warn") as caught:
        make(on_failure="ignore")
    assert caught.value.path == ("on_failure",)


def test_a_value_that_does_not_fit_is_no_failure_to_write(tmp_path: Path) -> None:
    hook = LogitsToCsv("ys", ["one"], "id", "t.csv", on_failure="warn")
    with pytest.raises(ConfigError, match="has 2 numbers for an example, and class_names has 1 names"):
        train(hook, tmp_path)


# ------------------------------------------------------------------------------------------------- one path, two hooks


def pairs() -> Iterator[tuple[str, list[AbstractHook], str | None]]:
    second = WriteJSON("t.csv")
    yield "table and lines", [HOOKS["LogitsToCsv"](), second], "WriteJSON and LogitsToCsv"
    yield "predictions over a table", [HOOKS["LogitsToCsv"](), WritePredictions(path="./t.csv")], "WritePredictions and"
    table = SequenceToCsv(["ys"], "id", "valid_3.csv")
    yield (
        "a table that has the name of an epoch",
        [WritePredictions(path="{stream}_{epoch}.csv"), table],
        "SequenceToCsv",
    )
    padded = SequenceToCsv(["ys"], "id", "valid_003.csv")
    yield (
        "with digits",
        [WritePredictions(path="{stream}_{epoch:03}.csv"), padded],
        "SequenceToCsv and WritePredictions",
    )
    other = SequenceToCsv(["ys"], "id", "valid.csv")
    yield "the name of no epoch", [WritePredictions(path="{stream}_{epoch}.csv"), other], None
    apart = SequenceToCsv(["ys"], "id", "train_3.csv")
    yield "of a stream that is not written", [WritePredictions(path="{stream}_{epoch}.csv"), apart], None
    first, twin = HOOKS["SaveConfusionMatrix"](), HOOKS["SaveConfusionMatrix"]()
    twin.name = "Second"
    yield "two figures", [first, twin], "Second and SaveConfusionMatrix both write .*give one another output_dir"
    else_ = HOOKS["SaveConfusionMatrix"](output_dir="elsewhere")
    else_.name = "Second"
    yield "figures in two folders", [HOOKS["SaveConfusionMatrix"](), else_], None
    lines = HOOKS["PlotLines"]()
    lines.name = "Second"
    yield "two drawings", [HOOKS["PlotLines"](), lines], "Second and PlotLines both write .*give one another folder"
    names = PlotLines(["ys"], id_variable="id", streams=["train"])
    names.name = "Second"
    yield "drawings of two streams", [HOOKS["PlotLines"](), names], None
    copy = SaveFile([__file__])
    yield "a copy", [copy, WriteJSON(Path(__file__).name)], "WriteJSON and SaveFile both write"
    trace = TrainingTrace()
    trace.name = "Second"
    yield "two traces", [TrainingTrace(), trace], "Second and TrainingTrace both write .*trace.yaml"


@pytest.mark.parametrize("relative", [True, False], ids=["relative", "absolute"])
@pytest.mark.parametrize("case", [name for name, _, _ in pairs()])
def test_no_two_hooks_write_one_file(
    case: str,
    relative: bool,
    make_model: Callable[..., Any],
    make_dataset: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    hooks, says = next((hooks, says) for name, hooks, says in pairs() if name == case)
    folder = Path("deep/run") if relative else tmp_path / "run"
    if says is None:
        MainLoop(make_model(), make_dataset(), hooks, output_dir=folder)
    else:
        with pytest.raises(ConfigError, match=says):
            MainLoop(make_model(), make_dataset(), hooks, output_dir=folder)


def test_an_absolute_path_and_a_relative_one_can_be_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "run")
    for path in (tmp_path / "run" / "t.csv", tmp_path / "link" / "t.csv", Path("../run/./t.csv")):
        listed = [HOOKS["LogitsToCsv"](), WriteJSON(str(path))]
        with pytest.raises(ConfigError, match="WriteJSON and LogitsToCsv both write"):
            MainLoop(FakeModel(), FakeDataset(train=BATCHES), listed, output_dir="run")
