from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.checkpoint import newest_checkpoint
from emloop_mtl.data.batch import Batch
from emloop_mtl.errors import CheckpointError, ConfigError
from emloop_mtl.hooks.stopping.stop_after import StopAfter
from emloop_mtl.hooks.writing import step_losses
from emloop_mtl.hooks.writing.write_json import WriteJSON
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.testing import FakeDataset, FakeModel, SaveAndFail, run_hook
from emloop_mtl.types import EpochData, EpochNumber


def read(folder: Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    text = (folder / name).read_text(encoding="utf-8")
    assert text == "" or text.endswith("\n")
    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


class Put(AbstractHook):
    """Write given numbers into each epoch."""

    def __init__(self, **streams: Mapping[str, Any]) -> None:
        super().__init__()
        self._streams = streams

    def provides(self) -> list[EpochNumber]:
        return [EpochNumber("loss")]

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        for stream, numbers in self._streams.items():
            epoch_data.setdefault(stream, {}).update(numbers)


def test_every_epoch_has_a_line(tmp_path: Path) -> None:
    put = Put(train={"loss": {"mean": torch.tensor(0.5)}}, valid={"digit/digits/accuracy": 0.75}, all={"größe": 2})
    run_hook(put, WriteJSON(), epochs=2, output_dir=tmp_path)
    numbers = {"train/loss/mean": 0.5, "digit/digits/valid/accuracy": 0.75, "größe": 2.0}
    assert read(tmp_path) == [
        {"epoch": 0, "step": 0, "samples": 0} | numbers,
        {"epoch": 1, "step": 2, "samples": 4} | numbers,
        {"epoch": 2, "step": 4, "samples": 8} | numbers,
    ]
    assert list(read(tmp_path)[0])[:3] == ["epoch", "step", "samples"]


def test_numbers_come_back_as_they_were_and_others_as_null(tmp_path: Path) -> None:
    put = Put(train={"loss": 0.1 + 0.2, "nan": math.nan, "inf": math.inf, "none": None, "list": [1.0], "text": "a"})
    run_hook(put, WriteJSON(), output_dir=tmp_path)
    assert read(tmp_path)[1] == {
        "epoch": 1,
        "step": 2,
        "samples": 4,
        "train/loss": 0.1 + 0.2,
        "train/nan": None,
        "train/inf": None,
    }


def test_an_epoch_can_be_read_when_its_event_is_over(tmp_path: Path) -> None:
    seen = []

    class Look(AbstractHook):
        def after_epoch_profile(self, epoch_id: int, profile: Any, streams: list[str]) -> None:
            seen.append(len(read(tmp_path)))

    run_hook(Put(), WriteJSON(), Look(), epochs=2, output_dir=tmp_path)
    assert seen == [1, 2, 3]


# ------------------------------------------------------------------------------------------------- losses of the steps


def by_value(name: str) -> Any:
    """Return a loss that is the batch's mean of ``x``."""
    return lambda batch: torch.tensor(float(sum(batch["x"])) / len(batch["x"])) if name in batch.tasks else math.nan


def two_tasks(*values: float) -> list[Batch]:
    """Return batches of one row each, of ``digit`` and ``parity`` in turn."""
    tasks = [{"digit": None}, {"parity": None}]
    return [Batch({"x": [value]}, tasks=tasks[index % 2]) for index, value in enumerate(values)]


LOSSES = {"loss": lambda batch: torch.tensor(float(batch["x"][0])), "digit/loss": by_value("digit")}
LOSSES["parity/loss"] = by_value("parity")


def test_losses_are_means_since_the_last_line(tmp_path: Path) -> None:
    dataset = FakeDataset(train=two_tasks(1, 2, 3, 4, 5))
    run_hook(WriteJSON(steps=2), outputs=LOSSES, dataset=dataset, epochs=2, skip_zeroth_epoch=True, output_dir=tmp_path)
    lines = [line for line in read(tmp_path) if len(line) > 3]
    assert lines == [
        {"epoch": 1, "step": 2, "samples": 2, "train/loss": 1.5, "train/digit/loss": 1.0, "train/parity/loss": 2.0},
        {"epoch": 1, "step": 4, "samples": 4, "train/loss": 3.5, "train/digit/loss": 3.0, "train/parity/loss": 4.0},
        # the window goes on from epoch to epoch: 5, then 1
        {"epoch": 2, "step": 6, "samples": 6, "train/loss": 3.0, "train/digit/loss": 3.0},
        {"epoch": 2, "step": 8, "samples": 8, "train/loss": 2.5, "train/parity/loss": 2.0, "train/digit/loss": 3.0},
        {"epoch": 2, "step": 10, "samples": 10, "train/loss": 4.5, "train/parity/loss": 4.0, "train/digit/loss": 5.0},
    ]
    assert [line["step"] for line in read(tmp_path)] == [2, 4, 5, 6, 8, 10, 10]


def test_batches_count_by_their_labelled_rows(tmp_path: Path) -> None:
    rows = {"digit": torch.tensor([0])}, {"digit": torch.tensor([], dtype=torch.int64)}
    batches = [
        Batch({"x": [1, 1, 1]}, tasks={"digit": None}, ends_step=False),
        Batch({"x": [5, 5]}, tasks={"digit": None}, rows=rows[0], ends_step=False),
        Batch({"x": [7, 7]}, tasks={"digit": None}, rows=rows[1]),
    ]
    outputs = {"loss": by_value("digit"), "digit/loss": by_value("digit")}
    dataset = FakeDataset(train=batches)
    run_hook(WriteJSON(steps=1), outputs=outputs, dataset=dataset, skip_zeroth_epoch=True, output_dir=tmp_path)
    line = read(tmp_path)[0]
    assert line["train/digit/loss"] == (3 * 1 + 1 * 5) / 4
    assert line["train/loss"] == pytest.approx((3 * 1 + 2 * 5 + 2 * 7) / 7, rel=1e-15)  # one rounding


def test_evaluating_the_train_stream_adds_nothing(tmp_path: Path) -> None:
    run_hook(WriteJSON(steps=1), extra_streams=["valid"], output_dir=tmp_path)
    assert [line["step"] for line in read(tmp_path) if "train/loss" in line] == [1, 2]


def test_losses_are_fetched_at_the_end_of_an_epoch_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []
    fetch = step_losses.fetch_numbers

    def count(values: Any) -> list[float | None]:
        numbers = fetch(values)
        fetched.append(len(numbers))
        return numbers

    monkeypatch.setattr(step_losses, "fetch_numbers", count)
    dataset = FakeDataset(train=[{"x": [1]}] * 100)
    run_hook(WriteJSON(steps=3), dataset=dataset, epochs=2, skip_zeroth_epoch=True, output_dir=tmp_path)
    assert fetched[:2] == [100, 100]
    assert sum(fetched) == 200
    monkeypatch.setattr(step_losses, "MOST_WAITING", 30)
    run_hook(WriteJSON("b", 1000), dataset=dataset, skip_zeroth_epoch=True, output_dir=tmp_path)
    assert fetched[3:7] == [30, 30, 30, 10]


def test_a_loss_that_is_trained_on_is_not_kept_with_its_graph(tmp_path: Path) -> None:
    weight = torch.ones((), requires_grad=True)
    hook = WriteJSON(steps=2)

    class Look(AbstractHook):
        def after_batch(self, stream_name: str, batch_data: Batch) -> None:
            assert not any(loss.requires_grad for _, _, loss in hook._losses._window.waiting)

    run_hook(hook, Look(), outputs={"loss": lambda batch: weight * 2}, output_dir=tmp_path)
    assert read(tmp_path)[1]["train/loss"] == 2.0


@pytest.mark.parametrize("loss", [torch.ones(2), None])
def test_a_loss_that_is_no_number_is_left_out(tmp_path: Path, loss: Any) -> None:
    run_hook(WriteJSON(steps=1), outputs={"loss": loss}, output_dir=tmp_path)
    assert read(tmp_path)[1] == {"epoch": 1, "step": 1, "samples": 2}


def test_only_losses_that_are_written_are_required() -> None:
    model = FakeModel({"loss": 1.0, "digit/loss": 1.0, "digit/prob": 1.0})
    for steps, names in ((None, []), (5, ["loss", "digit/loss"])):
        hook = WriteJSON(steps=steps)
        MainLoop(model, FakeDataset(train=[]), [hook], output_dir="unused")
        assert list(hook.requires_in_training()) == names
        assert list(hook.requires()) == []


# ------------------------------------------------------------------------------------------------------------- resuming


def make_loop(folder: Path, every: int = 1, fail_at: int | None = None) -> tuple[MainLoop, SaveAndFail]:
    dataset = FakeDataset(train=two_tasks(0.1, 0.2, 0.3, 0.4, 0.7), valid=[{"x": [6]}, {"x": [7]}])
    end = SaveAndFail(every, fail_at)
    put = Put(train={"loss": 0.5})
    hooks = [put, WriteJSON(steps=2), end, StopAfter(epochs=3)]
    return MainLoop(FakeModel(LOSSES), dataset, hooks, extra_streams=["valid"], output_dir=folder), end


MOMENTS = 32
"""5 + 2 batches and an end in each of 4 epochs."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What an undisturbed training writes."""
    folder = tmp_path_factory.mktemp("undisturbed")
    loop, end = make_loop(folder)
    loop.run_training()
    assert end.moments == MOMENTS
    return (folder / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("fail_at", range(4, MOMENTS + 1, 2))
def test_a_training_that_is_killed_and_resumed_writes_the_same(
    tmp_path: Path, undisturbed: bytes, fail_at: int
) -> None:
    loop, _ = make_loop(tmp_path, 1 + fail_at % 3, fail_at)
    with pytest.raises(RuntimeError, match="failed at moment"):
        loop.run_training()
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"epoch": 99, "st')  # a line that was being written when the power failed
    loop, _ = make_loop(tmp_path, every=5)
    loop.restore(newest_checkpoint(tmp_path / "checkpoints"))
    loop.run_training()
    assert (tmp_path / "metrics.jsonl").read_bytes() == undisturbed


def resumable(folder: Path) -> MainLoop:
    loop, _ = make_loop(folder, fail_at=12)
    with pytest.raises(RuntimeError, match="failed at moment"):
        loop.run_training()
    loop, _ = make_loop(folder)
    loop.restore(newest_checkpoint(folder / "checkpoints"))
    return loop


@pytest.mark.parametrize("remaining", [None, 0, 10])
def test_a_file_that_was_cut_or_removed_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, remaining: int | None
) -> None:
    loop = resumable(tmp_path)
    file = tmp_path / "metrics.jsonl"
    content = file.read_bytes()
    file.unlink() if remaining is None else file.write_bytes(content[:remaining])
    message = rf"WriteJSON: .*metrics\.jsonl has {remaining or 0} bytes, but had \d+ when the checkpoint was written"
    caplog.clear()
    with caplog.at_level(logging.ERROR), pytest.raises(CheckpointError, match=message):
        loop.run_training()
    assert caplog.text == ""
    assert file.exists() == (remaining is not None)


def test_the_state_outlives_the_file(tmp_path: Path) -> None:
    hook = WriteJSON(steps=2)
    run_hook(hook, dataset=FakeDataset(train=two_tasks(1, 2, 3)), skip_zeroth_epoch=True, output_dir=tmp_path)
    # three batches of one row and a loss of 1, of which two are written
    size = (tmp_path / "metrics.jsonl").stat().st_size
    assert hook.state_dict() == {"step": 3, "end": size, "window": {"loss": (1, 1.0)}}


def test_a_second_training_in_the_same_process_goes_on(tmp_path: Path) -> None:
    loop, _ = make_loop(tmp_path)
    loop.run_training()
    lines = len(read(tmp_path))
    loop.run_evaluation("valid")
    assert len(read(tmp_path)) == lines + 1


# --------------------------------------------------------------------------------------------------------------- errors


def test_another_training_is_not_written_over(tmp_path: Path) -> None:
    run_hook(WriteJSON(), output_dir=tmp_path)
    before = read(tmp_path)
    with pytest.raises(ConfigError, match=r"metrics\.jsonl exists and is of another training; .*another path") as info:
        run_hook(WriteJSON(), output_dir=tmp_path)
    assert info.value.path == ("path",)
    assert read(tmp_path) == before
    run_hook(WriteJSON("second.jsonl"), output_dir=tmp_path)
    assert len(read(tmp_path, "second.jsonl")) == 2


def test_an_empty_file_may_be_there(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").touch()
    run_hook(WriteJSON(), output_dir=tmp_path)
    assert len(read(tmp_path)) == 2


@pytest.mark.parametrize("path", ["file/metrics.jsonl", "folder"])
def test_a_path_that_cannot_be_written_is_a_config_error(
    tmp_path: Path, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match=rf"WriteJSON: cannot write .*{path.split('/')[0]}.*: \w+"):
        run_hook(WriteJSON(path), output_dir=tmp_path)
    assert caplog.text == ""


def test_without_a_folder_it_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"path 'metrics\.jsonl' is relative to the output folder.* output_dir"):
        run_hook(WriteJSON())


def test_an_absolute_path_needs_no_folder(tmp_path: Path) -> None:
    run_hook(WriteJSON(str(tmp_path / "new" / "metrics.jsonl")))
    assert len(read(tmp_path / "new")) == 2


def test_two_writers_of_one_file_are_a_config_error(tmp_path: Path) -> None:
    first, second = WriteJSON(), WriteJSON(str(tmp_path / "metrics.jsonl"))
    second.name = "again"
    with pytest.raises(ConfigError, match=r"again and WriteJSON both write .*metrics\.jsonl: give one another path"):
        run_hook(first, second, output_dir=tmp_path)


def test_a_full_disk_ends_the_training_with_the_name_of_the_file() -> None:
    path = "/dev/full"
    if not Path(path).exists():
        pytest.skip("the system has no such device")
    with pytest.raises(OSError, match=rf"No space left on device: '{path}'"):
        run_hook(WriteJSON(path), skip_zeroth_epoch=True)


def test_building_it_writes_nothing(tmp_path: Path) -> None:
    MainLoop(FakeModel(), FakeDataset(train=[{"x": [1]}]), [WriteJSON()], output_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [{"path": ""}, {"path": 3}, {"steps": 0}, {"steps": 1.5}, {"pth": "a"}])
def test_wrong_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"WriteJSON: (path|steps|unknown argument 'pth'; did you mean 'path')"):
        WriteJSON(**arguments)


def test_numbers_that_come_too_late_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run_hook(WriteJSON(), Put(), output_dir=tmp_path)
    assert "WriteJSON misses the numbers of Put: list it after Put" in caplog.text


def test_it_writes_in_an_evaluation_that_lists_it(tmp_path: Path) -> None:
    put, streams = Put(valid={"loss": 0.5}), {"train": [{"x": [1]}], "valid": [{"x": [2]}]}
    loop = MainLoop(FakeModel(), FakeDataset(**streams), [put, WriteJSON(steps=1)], output_dir=tmp_path)
    loop.run_evaluation("valid")
    assert read(tmp_path) == [{"epoch": 0, "step": 0, "samples": 0, "valid/loss": 0.5}]
