from __future__ import annotations

import csv
import math
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.checkpoint import newest_checkpoint
from emloop_mtl.errors import CheckpointError, ConfigError
from emloop_mtl.hooks import ComputeStats, Evaluate
from emloop_mtl.hooks.stopping.stop_after import StopAfter
from emloop_mtl.hooks.writing.write_csv import WriteCSV
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.testing import FakeDataset, FakeModel, SaveAndFail, run_hook
from emloop_mtl.types import EpochData, EpochNumber

from .test_abstract_writer import Full


def read(folder: Path, name: str = "training.csv", delimiter: str = ",") -> list[dict[str, str]]:
    with (folder / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter, strict=True))


class Put(AbstractHook):
    """Write given numbers into each epoch, those of an epoch only if it is given with them."""

    def __init__(self, only_in: set[int] | None = None, **streams: Mapping[str, Any]) -> None:
        super().__init__()
        self._only_in = only_in
        self._streams = streams

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        if self._only_in is None or epoch_id in self._only_in:
            for stream, numbers in self._streams.items():
                epoch_data.setdefault(stream, {}).update(numbers)


def test_every_epoch_has_a_row(tmp_path: Path) -> None:
    put = Put(train={"loss": {"mean": torch.tensor(0.5)}}, valid={"digit/digits/accuracy": 0.75, "größe": 2})
    run_hook(put, WriteCSV(), epochs=2, output_dir=tmp_path)
    assert (tmp_path / "training.csv").read_bytes().decode() == (
        "epoch,step,samples,train/loss/mean,digit/digits/valid/accuracy,valid/größe\n"
        "0,0,0,0.5,0.75,2.0\n"
        "1,2,4,0.5,0.75,2.0\n"
        "2,4,8,0.5,0.75,2.0\n"
    )


def test_numbers_come_back_bit_for_bit_with_csv_and_numpy(tmp_path: Path) -> None:
    values = [0.1 + 0.2, 1e-300, -1 / 3, 2.0**70, math.nan, math.inf, -math.inf, float(np.float32(0.1))]
    put = Put(train={f"v{index}": value for index, value in enumerate(values)} | {"none": None, "list": [1.0]})
    run_hook(put, WriteCSV(), output_dir=tmp_path)
    with_csv = [float(value) for value in list(read(tmp_path)[1].values())[3:]]
    table = np.genfromtxt(tmp_path / "training.csv", delimiter=",", names=True, deletechars="")
    with_numpy = [float(table[f"train/v{index}"][1]) for index in range(len(values))]
    np.testing.assert_array_equal(with_csv, values)  # takes nan for nan
    np.testing.assert_array_equal(with_numpy, values)
    assert table["epoch"].tolist() == [0, 1]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", " ", ".", "/", "1"])
def test_what_looks_like_a_delimiter_is_quoted(tmp_path: Path, delimiter: str) -> None:
    names = ['a,"b";c', "tab\tand space", "line\nbreak", "carriage\r\nreturn", "a.b"]
    first, second = Put(train=dict.fromkeys(names, 11.5)), Put({1}, valid={"late": 1.5})
    hook = WriteCSV(delimiter=delimiter, default_value="n.a., 1;2\t\"'")
    run_hook(first, second, hook, output_dir=tmp_path)
    rows = read(tmp_path, delimiter=delimiter)
    assert list(rows[0]) == ["epoch", "step", "samples", *(f"train/{name}" for name in names), "valid/late"]
    assert [row["train/line\nbreak"] for row in rows] == ["11.5", "11.5"]
    assert [row["valid/late"] for row in rows] == ["n.a., 1;2\t\"'", "1.5"]


def test_a_number_that_appears_later_gets_a_column_and_nothing_is_lost(tmp_path: Path) -> None:
    hooks = [Put({0, 2}, valid={"b": 2}), Put({1, 2, 3}, train={"a": 1, "c": 3}), WriteCSV(default_value=-1)]
    run_hook(*hooks, epochs=3, output_dir=tmp_path)
    assert (tmp_path / "training.csv").read_text() == (
        "epoch,step,samples,valid/b,train/a,train/c\n"
        "0,0,0,2.0,-1,-1\n"
        "1,2,4,-1,1.0,3.0\n"
        "2,4,8,2.0,1.0,3.0\n"
        "3,6,12,-1,1.0,3.0\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["training.csv"]


def test_epochs_without_any_number_have_rows(tmp_path: Path) -> None:
    run_hook(Put({2}, train={"a": 1}), WriteCSV(), epochs=2, output_dir=tmp_path)
    assert (tmp_path / "training.csv").read_text() == (
        "epoch,step,samples,train/a\n0,0,0,\n1,2,4,\n2,4,8,1.0\n"
    )  # fmt: skip


def test_a_stream_that_is_evaluated_now_and_then(tmp_path: Path) -> None:
    dataset = FakeDataset(train=[{"x": [1]}], valid=[{"x": [2]}])
    hooks = [Evaluate(["valid"], every=2, zeroth=False), ComputeStats(["loss"]), WriteCSV(variables=["loss"])]
    run_hook(*hooks, dataset=dataset, epochs=4, output_dir=tmp_path)
    assert [row["valid/loss/mean"] for row in read(tmp_path)] == ["", "", "1.0", "", "1.0"]
    assert [row["train/loss/mean"] for row in read(tmp_path)] == ["1.0"] * 5


def test_an_epoch_can_be_read_when_its_event_is_over(tmp_path: Path) -> None:
    seen = []

    class Look(AbstractHook):
        def after_epoch_profile(self, epoch_id: int, profile: Any, streams: list[str]) -> None:
            seen.append(len(read(tmp_path)))

    run_hook(Put({1}, train={"a": 1}), WriteCSV(), Look(), epochs=2, output_dir=tmp_path)
    assert seen == [1, 2, 3]


# ----------------------------------------------------------------------------------------------------------- variables


def test_only_the_listed_variables_are_written_of_all_streams(tmp_path: Path) -> None:
    numbers = {"loss": {"mean": 1.0, "max": 2.0}, "other": 5.0}
    run_hook(Put(train=numbers, valid=numbers), WriteCSV(variables=["loss"]), output_dir=tmp_path)
    names = ["train/loss/mean", "train/loss/max", "valid/loss/mean", "valid/loss/max"]
    assert list(read(tmp_path)[0])[3:] == names


def test_a_listed_variable_that_no_hook_provides(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = FakeModel()
    with pytest.raises(ConfigError, match="WriteCSV requires the number 'los', .* did you mean 'loss'"):
        run_hook(ComputeStats(["loss"]), WriteCSV(variables=["los"]), model=model, output_dir=tmp_path)
    assert model.evaluated == 0
    for action, count in (("warn", 1), ("default", 0)):
        hook = WriteCSV(f"{action}.csv", variables=["loss", "los"], on_missing_variable=action)
        run_hook(ComputeStats(["loss"]), hook, epochs=2, output_dir=tmp_path)
        warning = "WriteCSV: no stream has the variable 'los'; did you mean 'loss'?"
        assert [r.getMessage() for r in caplog.records if r.levelname == "WARNING"] == [warning] * count
        assert len(read(tmp_path, f"{action}.csv")) == 3
        caplog.clear()


def test_a_variable_may_have_aggregations_other_than_the_mean(tmp_path: Path) -> None:
    run_hook(ComputeStats([{"loss": ["min", "max"]}]), WriteCSV(variables=["loss"]), output_dir=tmp_path)
    assert "train/loss/min" in read(tmp_path)[0]


def test_a_value_that_is_no_number(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put = Put(train={"text": "a", "loss": {"mean": 1.0, "all": [1.0]}})
    run_hook(put, WriteCSV("default.csv"), output_dir=tmp_path)
    assert caplog.text == ""
    run_hook(put, WriteCSV("warn.csv", on_unknown_type="warn"), epochs=2, output_dir=tmp_path)
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "WriteCSV: 'train/text' is no number (str)",
        "WriteCSV: 'train/loss/all' is no number (list)",
    ]
    for name in ("default.csv", "warn.csv"):
        assert list(read(tmp_path, name)[0]) == ["epoch", "step", "samples", "train/loss/mean"]
    with pytest.raises(ConfigError, match=r"'train/text' is no number \(str\); set on_unknown_type to") as info:
        run_hook(put, WriteCSV("error.csv", on_unknown_type="error"), output_dir=tmp_path)
    assert info.value.path == ("on_unknown_type",)


# ------------------------------------------------------------------------------------------------------------ resuming


MOMENTS = 15
"""Two batches and an end in each of 5 epochs."""


def make_loop(
    folder: Path, every: int = 1, fail_at: int | None = None, **arguments: Any
) -> tuple[MainLoop, SaveAndFail]:
    """Make a loop whose table grows a column in the epochs 2 and 4."""
    end = SaveAndFail(every, fail_at)
    numbers = [Put(train={"a": 1 / 3}), Put({2, 3}, train={"b, c": 2}), Put({4}, train={"d": 3})]
    dataset = FakeDataset(train=[{"x": [1]}, {"x": [2]}])
    hooks = [*numbers, WriteCSV(**{"default_value": "?", **arguments}), end, StopAfter(epochs=4)]
    return MainLoop(FakeModel(), dataset, hooks, output_dir=folder), end


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What an undisturbed training writes."""
    folder = tmp_path_factory.mktemp("undisturbed")
    loop, end = make_loop(folder)
    loop.run_training()
    assert end.moments == MOMENTS
    return (folder / "training.csv").read_bytes()


@pytest.mark.parametrize("every", [1, 2, 5, 7])
@pytest.mark.parametrize("fail_at", range(8, MOMENTS + 1))
def test_a_training_that_is_killed_and_resumed_writes_the_same(
    tmp_path: Path, undisturbed: bytes, fail_at: int, every: int
) -> None:
    loop, _ = make_loop(tmp_path, every, fail_at)
    with pytest.raises(RuntimeError, match="failed at moment"):
        loop.run_training()
    with (tmp_path / "training.csv").open("ab") as file:
        file.write(b'99,1,2,"0.')  # a row that was being written when the power failed
    loop, _ = make_loop(tmp_path, every=5)
    loop.restore(newest_checkpoint(tmp_path / "checkpoints"))
    loop.run_training()
    assert (tmp_path / "training.csv").read_bytes() == undisturbed


def test_a_table_that_had_no_columns_of_numbers_yet_is_gone_on_with(tmp_path: Path) -> None:
    def make(folder: Path, fail_at: int | None = None) -> MainLoop:
        hooks = [Put({2}, train={"a": 1}), Put({3}, train={"b": 2}), WriteCSV(), SaveAndFail(4, fail_at)]
        dataset = FakeDataset(train=[{"x": [1]}, {"x": [2]}])
        return MainLoop(FakeModel(), dataset, [*hooks, StopAfter(epochs=3)], output_dir=folder)

    make(tmp_path / "whole").run_training()
    broken = make(tmp_path, fail_at=10)
    with pytest.raises(RuntimeError, match="failed at moment"):
        broken.run_training()
    found = newest_checkpoint(tmp_path / "checkpoints")
    saved = found.state["hooks"]["WriteCSV"]
    assert saved["end"]
    assert not saved["columns"]
    assert "train/a" in (tmp_path / "training.csv").read_text()
    again = make(tmp_path)
    again.restore(found)
    again.run_training()
    assert (tmp_path / "training.csv").read_bytes() == (tmp_path / "whole" / "training.csv").read_bytes()


def resumable(folder: Path, **arguments: Any) -> MainLoop:
    """Return a loop that can be resumed after epoch 1, while the table has the column of epoch 2 already."""
    loop, _ = make_loop(folder, every=6, fail_at=11)
    with pytest.raises(RuntimeError, match="failed at moment"):
        loop.run_training()
    assert "b, c" in (folder / "training.csv").read_text()
    loop, _ = make_loop(folder, **arguments)
    loop.restore(newest_checkpoint(folder / "checkpoints"))
    return loop


@pytest.mark.parametrize("remaining", [None, 0, 10, 40])
def test_a_file_that_was_cut_or_removed_is_named(tmp_path: Path, remaining: int | None) -> None:
    loop = resumable(tmp_path)
    file = tmp_path / "training.csv"
    content = file.read_bytes()
    file.unlink() if remaining is None else file.write_bytes(content[:remaining])
    message = rf"WriteCSV: .*training\.csv has {remaining or 0} bytes, but had \d+ when the checkpoint was written"
    with pytest.raises(CheckpointError, match=message):
        loop.run_training()
    assert (file.read_bytes() if file.exists() else None) == (None if remaining is None else content[:remaining])


@pytest.mark.parametrize(
    ("arguments", "change"),
    [
        ({"delimiter": ";"}, (b"", b"")),
        ({}, (b"0.333", b"0.33333")),  # a number
        ({}, (b"train/a", b"train/z")),  # a column, of a name as long
    ],
)
def test_another_table_is_not_cut(tmp_path: Path, arguments: dict[str, Any], change: tuple[bytes, bytes]) -> None:
    loop = resumable(tmp_path, **arguments)
    file = tmp_path / "training.csv"
    content = file.read_bytes().replace(*change, 1)
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"training\.csv is not the table that it was when the checkpoint was wr"):
        loop.run_training()
    assert file.read_bytes() == content


def test_a_table_that_something_else_has_changed_is_not_replaced(tmp_path: Path) -> None:
    class Meddle(AbstractHook):
        def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
            (tmp_path / "training.csv").write_text("mine\n")

    with pytest.raises(OSError, match=r"training\.csv has 0 rows, but 1 were written: something else has changed it"):
        run_hook(Put({1}, train={"a": 1}), WriteCSV(), Meddle(), output_dir=tmp_path)
    assert (tmp_path / "training.csv").read_text() == "mine\n"


def test_a_second_training_in_the_same_process_goes_on(tmp_path: Path) -> None:
    loop, _ = make_loop(tmp_path)
    loop.run_training()
    rows = len(read(tmp_path))
    loop.run_evaluation("train")
    assert len(read(tmp_path)) == rows + 1


def test_the_state_outlives_the_file(tmp_path: Path) -> None:
    hook = WriteCSV()
    assert hook.state_dict() == {"step": 0, "end": None, "columns": [], "rows": 0}
    run_hook(Put(train={"a": 1}), hook, output_dir=tmp_path)
    size = (tmp_path / "training.csv").stat().st_size
    assert hook.state_dict() == {"step": 2, "end": size, "columns": ["train/a"], "rows": 2}


# -------------------------------------------------------------------------------------------------------------- errors


def test_another_training_is_not_written_over(tmp_path: Path) -> None:
    run_hook(WriteCSV(), output_dir=tmp_path)
    before = read(tmp_path)
    with pytest.raises(ConfigError, match=r"training\.csv exists and is of another training; .*another path") as info:
        run_hook(WriteCSV(), output_dir=tmp_path)
    assert info.value.path == ("path",)
    assert read(tmp_path) == before


def test_headings_that_had_room_where_the_row_had_none_stand_there_once(tmp_path: Path) -> None:
    writer = WriteCSV(on_failure="warn")

    class Fill(AbstractHook):
        def requires(self) -> tuple[()]:
            return ()

        def before_epoch(self, epoch_id: int, train_streams: list[str], eval_streams: list[str]) -> None:
            records: Any = writer._file
            if epoch_id == 0:
                records._file = Full(records._file, room=len("epoch,step,samples,train/loss\n0,"))
            elif isinstance(records._file, Full):
                records._file = records._file.file

    run_hook(Fill(), Put(train={"loss": 0.5}), Put({2}, train={"late": 1.5}), writer, epochs=2, output_dir=tmp_path)
    written = (tmp_path / "training.csv").read_text()
    assert written == "epoch,step,samples,train/loss,train/late\n1,2,4,0.5,\n2,4,8,0.5,1.5\n"


class LimitFiles(AbstractHook):
    """Let no file grow beyond some bytes from the end of an epoch on."""

    def __init__(self, epoch: int, size: int) -> None:
        super().__init__()
        self._epoch, self._size = epoch, size

    def requires(self) -> tuple[()]:
        return ()

    def provides(self) -> tuple[()]:
        return ()

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        if epoch_id == self._epoch:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self._size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def test_a_table_for_whose_new_column_there_is_no_room_stays_whole(tmp_path: Path) -> None:
    put = Put(train={"loss": 0.5}), Put({1, 2}, train={"late": 1.5})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        run_hook(
            *put,
            LimitFiles(1, 40),
            WriteCSV(on_failure="warn"),
            LimitFiles(1, limits[0]),
            epochs=2,
            output_dir=tmp_path,
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    written = (tmp_path / "training.csv").read_text()
    assert written == "epoch,step,samples,train/loss,train/late\n0,0,0,0.5,\n2,4,8,0.5,1.5\n"


def test_a_full_disk_ends_the_training_with_the_name_of_the_file() -> None:
    path = "/dev/full"
    if not Path(path).exists():
        pytest.skip("the system has no such device")
    with pytest.raises(OSError, match=rf"WriteCSV: No space left on device: '{path}'"):
        run_hook(WriteCSV(path), skip_zeroth_epoch=True)


@pytest.mark.parametrize(
    ("arguments", "message", "path"),
    [
        ({"argument": "a"}, "unknown argument 'argument'; known are: default_value, delimiter", "argument"),
        ({"output_file": "a.csv"}, "the argument 'output_file' is called 'path' here", "output_file"),
        ({"delimiter": ""}, "delimiter must be one character, not ''", "delimiter"),
        ({"delimiter": ", "}, "delimiter must be one character", "delimiter"),
        ({"delimiter": "\n"}, "delimiter must be one character", "delimiter"),
        ({"delimiter": '"'}, "delimiter must be one character", "delimiter"),
        ({"variables": "loss"}, r"variables must be a list of names, such as \[loss\]", "variables"),
        ({"on_unknown_type": "ignore"}, "'ignore' is unknown; known are: default, error, warn", "on_unknown_type"),
        ({"on_missing_variable": "warning"}, "'warning' is unknown; did you mean 'warn'", "on_missing_variable"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str, path: str) -> None:
    with pytest.raises(ConfigError, match=message) as info:
        WriteCSV(**arguments)
    assert info.value.path == (path,)


def test_numbers_that_come_too_late_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run_hook(WriteCSV(), ComputeStats(["loss"]), output_dir=tmp_path)
    assert "WriteCSV misses the numbers of ComputeStats: list it after ComputeStats" in caplog.text


def test_it_reads_no_batch() -> None:
    assert WriteCSV(variables=["loss"], on_missing_variable="warn").requires() == ()
    hook = WriteCSV(variables=["loss"])
    MainLoop(FakeModel(), FakeDataset(train=[]), [hook], output_dir="unused")
    assert hook.requires() == [EpochNumber("loss")]
