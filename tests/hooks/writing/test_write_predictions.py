"""Files of predictions: what is in them, when they have their name, and that resuming completes them."""

from __future__ import annotations

import csv
import json
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from emloop_mtl.abstract_hook import AbstractHook, TrainingTerminated
from emloop_mtl.checkpoint import list_checkpoints, load_checkpoint, newest_checkpoint
from emloop_mtl.data.abstract_dataset import AbstractDataset
from emloop_mtl.data.batch import Batch
from emloop_mtl.data.multi_task_dataset import MultiTaskDataset
from emloop_mtl.errors import ConfigError
from emloop_mtl.hooks.evaluation.evaluate import Evaluate
from emloop_mtl.hooks.stopping.stop_after import StopAfter
from emloop_mtl.hooks.writing.write_csv import WriteCSV
from emloop_mtl.hooks.writing.write_predictions import WritePredictions
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.testing import FakeModel, RecordEvents, run_hook

MakeLoop = Callable[..., MainLoop]


@pytest.fixture
def make_loop(
    make_model: Callable[..., MultiTaskModel], make_dataset: Callable[..., MultiTaskDataset], tmp_path: Path
) -> MakeLoop:
    """Make a main loop of one epoch on the two tasks, with batches of four of 12 samples per stream."""

    def make(*hooks: AbstractHook, streams: Iterable[str] = ("valid", "test"), **options: Any) -> MainLoop:
        listed = [Evaluate(list(streams)), *hooks, StopAfter(epochs=1)]
        return MainLoop(make_model(), make_dataset(), listed, **{"output_dir": tmp_path / "run", **options})

    return make


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def files(folder: Path) -> dict[str, bytes]:
    """Return all files below the folder, without checkpoints."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in sorted(found.items()) if not name.startswith("checkpoints/")}


def assert_predicted(path: Path, model: MultiTaskModel, batches: Any) -> None:
    """Check that a file holds what the model predicts for the batches."""
    rows, expected = read(path), model.predict(batches)
    assert [(row["uid"], row["task"]) for row in rows] == [(uid, t) for uid in range(12) for t in ("digit", "size")]
    for task, found in expected.items():
        mine = [row for row in rows if row["task"] == task]
        assert found.preds is not None
        assert found.probs is not None
        assert found.labels is not None
        assert [row["data"] for row in mine] == ["shapes"] * 12
        assert [row["pred"] for row in mine] == found.preds.squeeze().tolist()
        assert [row["prob"] for row in mine] == (found.probs.tolist() if task == "digit" else [None] * 12)
        labels = [label if kept else None for label, kept in zip(found.labels.tolist(), found.is_labelled, strict=True)]
        assert [row["label"] for row in mine] == labels
    assert rows[1]["label"] is None, "the first size is missing"


def test_every_evaluated_stream_has_a_file_per_epoch(make_loop: MakeLoop, tmp_path: Path) -> None:
    loop = make_loop(WritePredictions())
    folder = tmp_path / "run" / "predictions"
    seen = []

    class Look(AbstractHook):
        def after_epoch(self, epoch_id: int, epoch_data: Any) -> None:
            seen.append(sorted(path.name for path in folder.iterdir()))
            for stream in ("valid", "test"):
                batches = getattr(loop.dataset, f"{stream}_stream")()
                assert_predicted(folder / f"{stream}_{epoch_id}.jsonl", loop.model, batches)  # type: ignore[arg-type]

    loop = make_loop(WritePredictions(), Look())
    loop.run_training()
    first = ["test_0.jsonl", "valid_0.jsonl"]
    assert seen == [first, sorted([*first, "test_1.jsonl", "valid_1.jsonl"])]
    assert (folder / "valid_0.jsonl").read_bytes() != (folder / "valid_1.jsonl").read_bytes()


def test_only_listed_streams_and_tasks_are_written(make_loop: MakeLoop, tmp_path: Path) -> None:
    hooks = WritePredictions(["test"], tasks=["size"], path="{stream}/{epoch:02}.csv")
    make_loop(hooks).run_training()
    assert list(files(tmp_path / "run")) == ["test/00.csv", "test/01.csv"]
    rows = list(csv.DictReader((tmp_path / "run" / "test" / "01.csv").read_text().splitlines()))
    assert list(rows[0]) == ["uid", "data", "task", "label", "pred", "prob"]
    assert {(row["task"], row["prob"]) for row in rows} == {("size", "")}
    assert [row["label"] for row in rows].index("") == 0


def test_the_format_can_be_named(make_loop: MakeLoop, tmp_path: Path) -> None:
    make_loop(WritePredictions(["test"], path="{stream}{epoch}.txt", format="csv")).run_training()
    assert (tmp_path / "run" / "test1.txt").read_bytes().startswith(b"uid,data,task,")


def test_the_train_stream_is_written_only_if_listed_and_evaluated(make_loop: MakeLoop, tmp_path: Path) -> None:
    make_loop(WritePredictions(["train"])).run_training()
    assert list(files(tmp_path / "run")) == ["predictions/train_0.jsonl"]


def test_nothing_is_computed_for_batches_that_are_trained_on(make_loop: MakeLoop) -> None:
    record = RecordEvents(requires=())
    make_loop(WritePredictions(), record).run_training()
    batches = [event for name, event in record.events if name == "after_batch"]
    trained = [event["batch_data"] for event in batches[9:12]]
    assert {event["stream_name"] for event in batches[9:12]} == {"train"}
    for batch in trained:
        assert not {"digit/prob", "digit/pred", "size/prob", "size/pred"} & batch.keys()
    assert "digit/prob" in batches[12]["batch_data"]


def test_a_path_without_an_epoch_holds_the_latest(make_loop: MakeLoop, tmp_path: Path) -> None:
    loop = make_loop(WritePredictions(path="{stream}.jsonl"))
    loop.run_training()
    assert list(files(tmp_path / "run")) == ["test.jsonl", "valid.jsonl"]
    assert_predicted(tmp_path / "run" / "valid.jsonl", loop.model, loop.dataset.valid_stream())  # type: ignore[arg-type]


def test_the_epoch_of_an_evaluation_is_that_of_the_weights(make_loop: MakeLoop, tmp_path: Path) -> None:
    loop = make_loop(WritePredictions())
    loop.run_evaluation("test", loop.position._replace(epoch=17))
    assert list(files(tmp_path / "run")) == ["predictions/test_17.jsonl"]
    assert loop.position.epoch == 0


# ------------------------------------------------------------------------------------------------ ends and resuming


class SaveAlways(AbstractHook):
    """Keep a checkpoint after every batch and epoch; fail or end after some batches."""

    def __init__(self, saves: bool = True, fail_after: int | None = None, end_after: int | None = None) -> None:
        super().__init__()
        self._saves, self._fail_after, self._end_after = saves, fail_after, end_after
        self.count = 0

    def requires(self) -> tuple[str, ...]:
        return ()

    def provides(self) -> tuple[str, ...]:
        return ()

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        self.save()

    def after_epoch(self, epoch_id: int, epoch_data: Any) -> None:
        self.save()

    def save(self) -> None:
        self.count += 1
        if self._saves:
            self.main_loop.request_save(f"at-{self.count:02d}")
        if self.count == self._fail_after:
            raise RuntimeError("out of paper")
        if self.count == self._end_after:
            raise TrainingTerminated("enough")


BATCHES = 2 * (9 + 1)
"""Batches of both epochs, and the ends of the epochs."""


def test_an_evaluation_that_fails_leaves_no_file(make_loop: MakeLoop, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="out of paper"):
        make_loop(WritePredictions(), SaveAlways(saves=False, fail_after=8)).run_training()  # second batch of test
    assert list(files(tmp_path / "run")) == ["predictions/valid_0.jsonl"]


def test_a_training_that_is_ended_in_an_evaluation_leaves_no_file(make_loop: MakeLoop, tmp_path: Path) -> None:
    make_loop(WritePredictions(), SaveAlways(saves=False, end_after=8)).run_training()
    assert list(files(tmp_path / "run")) == ["predictions/valid_0.jsonl"]


@pytest.mark.long
def test_resuming_anywhere_completes_all_files(
    make_loop: MakeLoop, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_loop(WritePredictions(), SaveAlways()).run_training()
    run = tmp_path / "run"
    expected = files(run)
    assert len(expected) == 4
    checkpoints = list_checkpoints(run / "checkpoints")
    assert len(checkpoints) == BATCHES
    halves = 0
    for number in range(1, BATCHES):
        shutil.rmtree(run)
        with pytest.raises(RuntimeError):
            make_loop(WritePredictions(), SaveAlways(fail_after=number + 1)).run_training()
        (path,) = list_checkpoints(run / "checkpoints", f"at-{number:02d}")
        for half in run.rglob(".*.partial"):
            halves += 1
            half.write_bytes(half.read_bytes() + b"written after the checkpoint" * 1000)
        for _ in range(2):  # gone on with twice, as after a kill; then the file of the checkpoint is complete already
            loop = make_loop(WritePredictions(), SaveAlways(saves=False))
            loop.restore(load_checkpoint(path))
            loop.run_training()
            assert files(run) == expected, number
    assert halves > 0, "no checkpoint was in the middle of a file"
    assert "cannot be completed" not in caplog.text


def test_a_file_that_is_gone_on_with_outlives_another_failure(make_loop: MakeLoop, tmp_path: Path) -> None:
    run = tmp_path / "run"
    make_loop(WritePredictions(), SaveAlways()).run_training()
    expected = files(run)
    shutil.rmtree(run)
    with pytest.raises(RuntimeError):
        make_loop(WritePredictions(), SaveAlways(fail_after=6)).run_training()
    (path,) = list_checkpoints(run / "checkpoints", "at-05")  # in the middle of the stream valid
    for fail_after in (1, 10**6):
        loop = make_loop(WritePredictions(), SaveAlways(saves=False, fail_after=fail_after))
        loop.restore(load_checkpoint(path))
        with pytest.raises(RuntimeError) if fail_after == 1 else nullcontext():
            loop.run_training()
    assert files(run) == expected


def test_a_file_that_no_checkpoint_speaks_of_goes_though_one_speaks_of_another(
    make_loop: MakeLoop, tmp_path: Path
) -> None:
    class SaveInValid(SaveAlways):
        def after_batch(self, stream_name: str, batch_data: Batch) -> None:
            if stream_name == "valid":
                self.main_loop.request_save("valid")
            super().after_batch(stream_name, batch_data)

    with pytest.raises(RuntimeError):
        make_loop(WritePredictions(), SaveInValid(saves=False, fail_after=8)).run_training()
    assert list(files(tmp_path / "run")) == ["predictions/valid_0.jsonl"]


def test_an_epoch_by_hand_begins_its_file_anew(make_loop: MakeLoop, tmp_path: Path) -> None:
    loop = make_loop(WritePredictions(), SaveAlways(saves=False, fail_after=2), streams=["valid"])
    with loop:
        with pytest.raises(RuntimeError):
            loop.epoch([], ["valid"])
        loop.epoch([], ["valid"])
    path = tmp_path / "run" / "predictions" / "valid_0.jsonl"
    assert_predicted(path, loop.model, loop.dataset.valid_stream())  # type: ignore[arg-type]


def test_rows_without_uids_are_numbered_on_when_resumed(
    make_model: Callable[..., MultiTaskModel], tmp_path: Path
) -> None:
    class Bare(AbstractDataset):
        def train_stream(self) -> Iterator[dict[str, Any]]:
            for _ in range(3):
                yield {"image": torch.ones(4, 3), "digit": torch.zeros(4, dtype=torch.long)}

        valid_stream = train_stream

    def make(end: AbstractHook) -> MainLoop:
        hooks = [Evaluate(["valid"]), WritePredictions(), end, StopAfter(epochs=1)]
        return MainLoop(make_model(), Bare(), hooks, output_dir=tmp_path, skip_zeroth_epoch=True)

    with pytest.raises(RuntimeError):
        make(SaveAlways(fail_after=6)).run_training()
    loop = make(SaveAlways(saves=False))
    loop.restore(newest_checkpoint(tmp_path / "checkpoints"))
    loop.run_training()
    assert [row["uid"] for row in read(tmp_path / "predictions" / "valid_1.jsonl")] == list(range(12))


def test_what_a_checkpoint_speaks_of_is_in_the_file(make_loop: MakeLoop, tmp_path: Path) -> None:
    writer = WritePredictions(["test"])
    lines = []

    class Look(SaveAlways):
        def after_batch(self, stream_name: str, batch_data: Batch) -> None:
            if stream_name == "test":
                state = writer.state_dict()
                text = (tmp_path / "run" / "predictions" / ".test_0.jsonl.partial").read_bytes()
                assert len(text) == state["end"]
                lines.append(text.count(b"\n"))
                if len(lines) == 3:
                    raise TrainingTerminated("seen")

    make_loop(writer, Look(saves=False)).run_training()
    assert lines == [8, 16, 24]


def test_a_file_that_was_overwritten_since_is_left_alone(
    make_loop: MakeLoop, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(RuntimeError):
        make_loop(WritePredictions(path="{stream}.jsonl"), SaveAlways(fail_after=9)).run_training()
    run = tmp_path / "run"
    (path,) = list_checkpoints(run / "checkpoints", "at-08")
    (run / ".test.jsonl.partial").write_bytes(b"x" * 100_000)
    (run / "test.jsonl").write_bytes(b"of a later epoch")
    seen = []

    class Look(AbstractHook):
        def after_epoch(self, epoch_id: int, epoch_data: Any) -> None:
            seen.append((run / "test.jsonl").read_bytes())

    loop = make_loop(WritePredictions(path="{stream}.jsonl"), SaveAlways(saves=False), Look())
    loop.restore(load_checkpoint(path))
    loop.run_training()
    assert loop.end == "finished"
    assert "test.jsonl cannot be completed" in caplog.text
    assert seen[0] == b"of a later epoch"
    assert_predicted(run / "test.jsonl", loop.model, loop.dataset.test_stream())  # type: ignore[arg-type]


def test_a_hook_that_is_added_in_the_middle_begins_with_the_next_epoch(
    make_loop: MakeLoop, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(RuntimeError):
        make_loop(SaveAlways(fail_after=6)).run_training()
    run = tmp_path / "run"
    (path,) = list_checkpoints(run / "checkpoints", "at-05")
    loop = make_loop(WritePredictions(), SaveAlways(saves=False))
    loop.restore(load_checkpoint(path))
    loop.run_training()
    assert list(files(run)) == ["predictions/test_1.jsonl", "predictions/valid_1.jsonl"]
    warned = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len([text for text in warned if "WritePredictions begins with the next epoch" in text]) == 1


# ------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("arguments", "message", "path"),
    [
        ({"streams": "valid"}, r"streams must be a list of names, such as \[valid\]", ("streams",)),
        ({"path": ""}, "path must be a path, not ''", ("path",)),
        ({"path": "a.txt"}, r"the suffix '\.txt' stands for no format; use one of \.csv", ("format",)),
        ({"format": "xml"}, "unknown format 'xml'", ("format",)),
        ({"path": "{steam}.csv"}, r"path '{steam}.csv': unknown field 'steam'; did you mean 'stream'\?$", ("path",)),
        ({"path": "{}.csv"}, "unknown field ''; known are: epoch, stream$", ("path",)),
        ({"path": "{stream.csv"}, r"it may hold \{stream\} and \{epoch\}", ("path",)),
        ({"path": "{epoch:q}.csv"}, r"it may hold \{stream\} and \{epoch\}", ("path",)),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str, path: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=f"^WritePredictions: (?!.*WritePredictions).*{message}") as caught:
        WritePredictions(**arguments)
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("arguments", "options", "message", "path"),
    [
        ({"streams": ["valid", "tset"]}, {}, "no stream 'tset'.* did you mean 'test'", ("streams", 1)),
        ({"tasks": ["digt"]}, {}, "the model has no task 'digt'; did you mean 'digit'", ("tasks", 0)),
        ({}, {"output_dir": None}, "is relative to the output folder, but there is none", ("path",)),
    ],
)
def test_what_does_not_fit_the_training_is_refused(
    make_loop: MakeLoop, arguments: dict[str, Any], options: dict[str, Any], message: str, path: tuple[Any, ...]
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        make_loop(WritePredictions(**arguments), **options)
    assert caught.value.path == path


def test_a_model_needs_tasks(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="WritePredictions needs a model with 'tasks', .* FakeModel has none"):
        run_hook(WritePredictions(), model=FakeModel(), output_dir=tmp_path)


def test_two_streams_cannot_share_a_file(make_loop: MakeLoop) -> None:
    with pytest.raises(ConfigError, match="the streams 'valid' and 'test' both write .*put {stream} into path"):
        make_loop(WritePredictions(path="{epoch}.csv")).run_training()


def named(name: str, hook: WritePredictions) -> WritePredictions:
    hook.name = name
    return hook


@pytest.mark.parametrize(
    ("first", "second", "clash"),
    [
        ({}, {"tasks": ["size"]}, True),
        ({"streams": ["valid"]}, {"streams": ["test"]}, False),
        ({"streams": ["valid"], "path": "a.csv"}, {"streams": ["test"], "path": "a.csv"}, True),
        ({}, {"path": "other_{stream}_{epoch}.csv"}, False),
    ],
)
def test_two_hooks_cannot_share_a_file(
    make_loop: MakeLoop, first: dict[str, Any], second: dict[str, Any], clash: bool
) -> None:
    hooks = [WritePredictions(**first), named("Second", WritePredictions(**second))]
    if clash:
        with pytest.raises(ConfigError, match="Second and WritePredictions both write"):
            make_loop(*hooks)
    else:
        make_loop(*hooks)


@pytest.mark.parametrize("obstacle", ["file", "folder"])
def test_a_file_that_cannot_be_written_is_a_mistake(make_loop: MakeLoop, tmp_path: Path, obstacle: str) -> None:
    run = tmp_path / "run"
    if obstacle == "file":
        run.mkdir()
        (run / "predictions").write_text("")
    else:
        (run / "predictions" / "valid_0.jsonl").mkdir(parents=True)
    file = {"file": r"\{stream\}_\{epoch\}", "folder": "valid_0"}[obstacle]  # the folder is looked at beforehand
    message = rf"WritePredictions: cannot write .*predictions/{file}\.jsonl: "
    with pytest.raises(ConfigError, match=message) as caught:
        make_loop(WritePredictions()).run_training()
    assert caught.value.path == ("path",)


def test_neither_writers_nor_the_run_lose_their_files(make_loop: MakeLoop) -> None:
    for listed in (
        [WriteCSV(), WritePredictions(path="./training.csv")],
        [WritePredictions(path="a.csv"), WriteCSV("a.csv")],
    ):
        with pytest.raises(
            ConfigError,
            match=r"(WritePredictions and WriteCSV|WriteCSV and WritePredictions) both write .*: give one another path",
        ) as info:
            make_loop(*listed)
        assert info.value.path == ("path",)
    for path in ("config.yaml", "./run.yaml", "checkpoints/", "train.log", "trace.yaml", "a\0b.csv"):
        for make in (WriteCSV, WritePredictions):
            with pytest.raises(ConfigError, match=r"path '.*' is what the run itself writes|path must be a path"):
                make(path=path)


def test_a_stream_that_no_epoch_evaluates_is_told_of_once(
    make_loop: MakeLoop, caplog: pytest.LogCaptureFixture
) -> None:
    loop = make_loop(WritePredictions(["valid", "test"]), streams=["valid"], skip_zeroth_epoch=True)
    loop.run_training()
    text = (
        "WritePredictions: neither Evaluate nor main_loop.extra_streams lists 'test', so training writes nothing of it"
    )
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [text]
    caplog.clear()
    loop.run_evaluation("test")
    make_loop(WritePredictions(["valid", "test"]), streams=["valid"], extra_streams=["test"]).run_training()
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == []
