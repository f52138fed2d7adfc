"""LogitsToCsv: a row for each example, a column for each class."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.checkpoint import newest_checkpoint
from emloop_mtl.data.column_dataset import ColumnDataset
from emloop_mtl.data.multi_task_dataset import MultiTaskDataset
from emloop_mtl.data.task_loader import TaskLoader
from emloop_mtl.errors import ConfigError, DataError
from emloop_mtl.hooks import (
    ClassificationMetrics,
    Evaluate,
    LogitsToCsv,
    ScoreTasks,
    SequenceToCsv,
    StopAfter,
    WriteCSV,
)
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.schedulers.interleaved import Interleaved
from emloop_mtl.schedulers.round_robin import RoundRobin
from emloop_mtl.testing import FakeDataset, FakeModel, RecordEvents, SaveAndFail, run_hook


def table(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def write(folder: Path | None, batches: list[dict[str, Any]], *first: AbstractHook, **arguments: Any) -> None:
    given = {"variable": "color", "class_names": ["red", "green"], "id_variable": "id", "path": "t.csv", **arguments}
    hook = LogitsToCsv(**given)
    dataset = FakeDataset(train=batches, valid=batches[:1])
    run_hook(*first, hook, dataset=dataset, output_dir=folder, extra_streams=["valid"], on_unused_sources="ignore")


@pytest.mark.parametrize(
    "make",
    [
        list,
        np.array,
        torch.tensor,
        lambda rows: torch.tensor(rows, requires_grad=True),
        lambda rows: torch.tensor(rows, dtype=torch.float64),
        lambda rows: [torch.tensor(row) for row in rows],
    ],
    ids=["list", "array", "tensor", "graph", "double", "rows"],
)
def test_all_rows_of_all_streams_and_epochs_are_there_in_order(make: Callable[[Any], Any], tmp_path: Path) -> None:
    batches = [
        {"x": [0, 0], "id": ["a", 'b,"'], "color": make([[0.5, 0.25], [-1.0, 3.0]])},
        {"x": [0], "id": ["c"], "color": make([[float("inf"), float("nan")]])},
    ]
    write(tmp_path, batches)
    a, b, c = ["a", "0.5", "0.25"], ['b,"', "-1.0", "3.0"], ["c", "inf", "nan"]
    epoch = [a, b, c, a, b]
    assert table(tmp_path / "t.csv") == [["id", "red", "green"], *epoch, *epoch]


def test_numbers_have_all_their_digits(tmp_path: Path) -> None:
    numbers = torch.rand(20, 2, generator=torch.Generator().manual_seed(0))
    write(tmp_path, [{"x": [0] * 20, "id": torch.arange(20), "color": numbers}], streams=["train"])
    rows = table(tmp_path / "t.csv")[21:]
    assert [int(row[0]) for row in rows] == list(range(20))
    assert torch.equal(torch.tensor([[float(cell) for cell in row[1:]] for row in rows]), numbers)


def test_rows_are_on_disk_before_the_checkpoint_that_speaks_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []
    fsync = os.fsync

    def note(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        flushed.append(f"{path.name}: {len(table(path))}" if path.suffix == ".csv" else path.name)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", note)
    batches = [{"x": [0], "id": [name], "color": [[1, 2]]} for name in "ab"]
    hook = LogitsToCsv("color", ["red", "green"], "id", path="t.csv")
    with pytest.raises(RuntimeError, match="failed at moment 2"):
        run_hook(
            hook,
            SaveAndFail(fail_at=2),
            dataset=FakeDataset(train=batches),
            output_dir=tmp_path,
            skip_zeroth_epoch=True,
            on_unused_sources="ignore",
        )
    assert flushed[0] == "t.csv: 2"  # the heading, and the row of the batch that the checkpoint comes after
    assert flushed[-1] == "t.csv: 2"  # that of the batch that has failed is lost
    assert "state.pt" in flushed[1:-1]


def test_tables_of_a_training_are_no_part_of_an_evaluation() -> None:
    assert all(hook.training_only for hook in (LogitsToCsv, SequenceToCsv, WriteCSV))  # which would begin them anew


@pytest.mark.parametrize("fail_at", [None, 4, 5, 7, 9, 10])
@pytest.mark.parametrize("kind", ["logits", "sequences"])
def test_a_training_that_is_resumed_goes_on_after_the_last_row(kind: str, fail_at: int | None, tmp_path: Path) -> None:
    def loop(fail_at: int | None = None) -> MainLoop:
        batches = [{"x": [0], "id": [str(number)], "color": [[number, number + 0.5]]} for number in range(3)]
        rows = LogitsToCsv("color", ["red", "green"], "id", "t.csv")
        hook = rows if kind == "logits" else SequenceToCsv(["color"], "id", "t.csv")
        # first, so that what is broken off at a moment has written nothing about it
        hooks = [SaveAndFail(5 if fail_at is None else 2, fail_at), hook, StopAfter(epochs=2)]
        return MainLoop(FakeModel(), FakeDataset(train=batches), hooks, output_dir=tmp_path, on_unused_sources="ignore")

    if fail_at is not None:
        with pytest.raises(RuntimeError, match="failed at moment"):
            loop(fail_at).run_training()
        with (tmp_path / "t.csv").open("a") as file:
            file.write("99,")  # what was written after the checkpoint, half a row too
    resumed = loop()
    if fail_at is not None:
        resumed.restore(newest_checkpoint(tmp_path / "checkpoints"))
    resumed.run_training()
    assert resumed.hooks.state_dict()[f"{'Logits' if kind == 'logits' else 'Sequence'}ToCsv"] == {
        "end": (tmp_path / "t.csv").stat().st_size
    }
    epoch = [[f"{number}", f"{number}", f"{number + 0.5}"] for number in range(3)]
    if kind == "sequences":
        epoch = [[name, str(index), value] for name, *values in epoch for index, value in enumerate(values)]
    assert table(tmp_path / "t.csv")[1:] == 3 * epoch


def test_a_table_of_before_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "t.csv"
    for name in ("a", "b"):
        write(None, [{"x": [0], "id": [name], "color": [[1, 2]]}], path=str(path), streams=["valid"])
        assert table(path) == [["id", "red", "green"], [name, "1", "2"], [name, "1", "2"]]


def test_probabilities_of_a_task_are_those_of_the_batches_and_computed_for_the_listed_streams_only(
    make_model: Callable[..., MultiTaskModel], make_dataset: Callable[..., MultiTaskDataset], tmp_path: Path
) -> None:
    hook = LogitsToCsv("digit/prob", ["a", "b", "c"], "_uids_", "probs.csv", streams=["valid"])
    look = RecordEvents(requires=())
    model = make_model()
    run_hook(Evaluate(["valid"]), hook, look, model=model, dataset=make_dataset(), output_dir=tmp_path)
    seen = [(event["stream_name"], event["batch_data"]) for name, event in look.events if name == "after_batch"]
    assert not any("digit/prob" in batch for stream, batch in seen[6:] if stream == "train")
    expected = [
        [str(int(uid)), *map(str, probs)]
        for stream, batch in seen
        if stream == "valid"
        for uid, probs in zip(batch["_uids_"], batch["digit/prob"].tolist(), strict=True)
    ]
    assert len(expected) == 24
    assert table(tmp_path / "probs.csv")[1:] == expected


class Apart(MultiTaskDataset):
    """Each task has rows of its own."""

    def loaders(self) -> list[TaskLoader]:
        image = torch.arange(12.0).view(4, 3)
        labels = {"digit": torch.tensor([0, 1, 2, 0]), "size": torch.tensor([1.0, 2.0, 3.0, 4.0])}
        made = []
        for name, label in labels.items():
            uids = [f"{name} {row}" for row in range(4)]
            data = ColumnDataset(name, {"image": image, "uid": uids}, {name: label}, uid="uid")
            made.append(TaskLoader(data, {name: name}, "train", name=name, batch_size=2))
        return made


@pytest.mark.parametrize("scheduler", [RoundRobin(), Interleaved(batch_size=3)], ids=["apart", "mixed"])
def test_rows_of_other_tasks_are_left_out(
    scheduler: Any, make_model: Callable[..., MultiTaskModel], tmp_path: Path
) -> None:
    hooks = [
        ScoreTasks(train=True),
        LogitsToCsv("digit/prob", ["a", "b", "c"], "uid", "probs.csv"),
        ClassificationMetrics("digit/pred", "digit", f1_average="macro"),
    ]
    dataset = Apart(streams={"train": {"scheduler": scheduler}})
    record = run_hook(*hooks, model=make_model(), dataset=dataset, output_dir=tmp_path)
    rows = table(tmp_path / "probs.csv")[1:]
    expected = [f"digit {row}" for row in range(4)]
    assert [sorted(row[0] for row in epoch) for epoch in (rows[:4], rows[4:])] == [expected, expected]
    numbers = record.epochs[1]["train"]
    assert numbers["accuracy"] == numbers["digit/digit/accuracy"]


@pytest.mark.parametrize(
    ("arguments", "says", "path"),
    [
        ({"class_names": "red"}, "class_names must be a list of names, such as [red], not 'red'", "class_names"),
        ({"class_names": ["red", "red"]}, "class_names lists 'red' twice", "class_names"),
        ({"class_names": ["id", "red"]}, "'id' is the name of the first column, and cannot be that of", "class_names"),
        ({"id_variable": 3}, "id_variable must be the name of a variable, not 3", "id_variable"),
        ({"path": ""}, "path must be a path, not ''", "path"),
        ({"path": "run.yaml"}, "path 'run.yaml' is what the run itself writes", "path"),
        ({"path": "checkpoints/latest/weights"}, "is what the run itself writes", "path"),
        ({"streams": ["vlaid"]}, "no stream 'vlaid'", "streams"),
        ({"output_file": "a.csv"}, "the argument 'output_file' is called 'path' here", "output_file"),
        ({"path": "t.csv/t.csv"}, "cannot write", "path"),
    ],
    ids=["text", "twins", "id", "number", "empty", "reserved", "inside", "stream", "old name", "below a file"],
)
def test_mistakes_are_told_before_the_first_batch(
    arguments: dict[str, Any], says: str, path: str, tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_text("")
    with pytest.raises(ConfigError) as caught:
        write(tmp_path, [{"x": [0], "id": [1], "color": [[1, 2]]}], **arguments)
    assert says in str(caught.value)
    assert caught.value.path[0] == path


@pytest.mark.parametrize("other", [WriteCSV("t.csv"), SequenceToCsv(["color"], "id", "./t.csv")], ids=["csv", "rows"])
def test_no_two_hooks_write_one_file(other: AbstractHook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"LogitsToCsv and \w+ both write .*t\.csv: give one another path"):
        write(Path("run"), [{"x": [0], "id": [1], "color": [[1, 2]]}], other)


def test_a_path_in_no_folder_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match=r"path 't\.csv' is relative to the output folder, but there is none"):
        write(None, [{"x": [0], "id": [1], "color": [[1, 2]]}])


@pytest.mark.parametrize(
    ("color", "says"),
    [
        ([[1, 2, 3]], "'color' of stream 'train' has 3 numbers for an example, and class_names has 2 names"),
        ([1], "has one number for an example"),
    ],
    ids=["more", "number"],
)
def test_values_that_do_not_fit_are_told_of(color: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        write(tmp_path, [{"x": [0], "id": [1], "color": color}])
    assert says in str(caught.value)
    assert caught.value.path[-1] == "class_names"


def test_the_one_value_of_a_batch_is_none_of_an_example(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'loss' of stream 'train' has one value per batch, not one per example"):
        write(tmp_path, [{"x": [0], "id": [1]}], variable="loss")
