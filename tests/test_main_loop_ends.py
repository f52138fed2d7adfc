"""How a run ends: terminated, interrupted, failed; and how it goes on."""

import logging
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.checkpoint import newest_checkpoint
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.testing import FakeDataset, FakeModel, RecordEvents

from .main_loops import At, batches, end_of, fail, interrupt, interrupt_twice, stop, terminate

ENDS = [
    # event, action, other hooks of that event, after_epoch of the epoch, success, end, error
    pytest.param("after_epoch", terminate, True, True, True, "finished", None, id="termination after an epoch"),
    pytest.param("profile", terminate, True, True, True, "finished", None, id="termination after a profile"),
    pytest.param("train", terminate, True, False, True, "finished", None, id="termination after a batch"),
    pytest.param("train", interrupt, True, False, True, "interrupted", None, id="SIGINT while training"),
    pytest.param("valid", stop, True, False, True, "interrupted", None, id="SIGTERM while evaluating"),
    pytest.param("train", fail, False, False, False, "failed", RuntimeError, id="another error"),
    pytest.param("train", interrupt_twice, False, False, False, "failed", KeyboardInterrupt, id="a second SIGINT"),
]


@pytest.mark.parametrize(("event", "action", "others", "epoch_ends", "success", "end", "error"), ENDS)
def test_ends(
    event: str,
    action: Callable[[], None],
    others: bool,
    epoch_ends: bool,
    success: bool,
    end: str,
    error: type[BaseException] | None,
    tmp_path: Path,
) -> None:
    count = 2 if event in ("after_epoch", "profile") else 5
    record, raised = end_of(At(event, count, action), tmp_path)
    assert (type(raised) if raised is not None else None) is error
    assert record.events[-1] == ("after_training", {"success": success})
    assert record.main_loop.end == end
    before_end = record.names[-2]
    if epoch_ends:
        assert before_end == "after_epoch_profile"
    else:
        assert before_end == "after_batch"
        seen = [event["stream_name"] for name, event in record.events if name == "after_batch"]
        assert seen.count(event) == (count if others else count - 1)


def test_a_second_sigint_is_not_after_training_successful(tmp_path: Path) -> None:
    _, raised = end_of(At("train", 4, interrupt_twice), tmp_path)
    assert isinstance(raised, KeyboardInterrupt)
    assert not (tmp_path / "checkpoints").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("action", [interrupt, stop])
def test_an_interrupted_run_is_saved_at_the_border_and_goes_on_there(
    action: Callable[[], None], tmp_path: Path
) -> None:
    end_of(At("train", 4, action), tmp_path)
    checkpoint = newest_checkpoint(tmp_path / "checkpoints")
    assert tuple(checkpoint.position) == (0, 1, 0, 1)
    assert not checkpoint.finished
    model, resumed = FakeModel(), RecordEvents()
    dataset = FakeDataset(train=batches(1, 1, 1), valid=batches(1, 1))
    loop = MainLoop(model, dataset, [At("after_epoch", 1, terminate), resumed], extra_streams=["valid"])
    loop.restore(checkpoint)
    loop.run_training()
    assert model.trained == 3
    assert [event["stream_name"] for name, event in resumed.events if name == "after_batch"] == ["train"] * 2 + [
        "valid"
    ] * 2
    assert tuple(loop.position) == (1, 3, 1, 3)


def test_an_interrupted_evaluation_goes_on_at_its_next_batch(tmp_path: Path) -> None:
    end_of(At("valid", 3, interrupt), tmp_path)
    resumed = RecordEvents()
    dataset = FakeDataset(train=batches(1, 1, 1), valid=batches(1, 2))
    loop = MainLoop(FakeModel(), dataset, [At("after_epoch", 1, terminate), resumed], extra_streams=["valid"])
    loop.restore(newest_checkpoint(tmp_path / "checkpoints"))
    loop.run_training()
    assert [event["batch_data"].size for name, event in resumed.events if name == "after_batch"] == [2]
    assert resumed.names.count("before_epoch") == 0


@pytest.mark.parametrize("event", ["train", "valid"])
def test_an_interrupted_training_that_is_run_once_more_goes_on(event: str) -> None:
    record = RecordEvents()
    dataset = FakeDataset(train=batches(1, 2, 3), valid=batches(7, 8))
    hooks = [At(event, 1, interrupt), At("after_epoch", 2, terminate), record]
    loop = MainLoop(FakeModel(), dataset, hooks, extra_streams=["valid"], skip_zeroth_epoch=True)
    loop.run_training()
    assert loop.end == "interrupted"
    loop.run_training()
    assert loop.end == "finished"
    sizes = [event["batch_data"].size for name, event in record.events if name == "after_batch"]
    assert sizes == [1, 2, 3, 7, 8] * 2
    assert tuple(loop.position) == (2, 6, 2, 12)


@pytest.mark.parametrize("event", ["before_training", "before_epoch"])
def test_a_termination_before_an_event_is_a_regular_end_too(event: str) -> None:
    hook = type("Stop", (AbstractHook,), {event: lambda self, **_: terminate()})()
    record = RecordEvents()
    loop = MainLoop(FakeModel(), FakeDataset(train=batches(1)), [record, hook])
    loop.run_training()
    assert record.names == ["before_training", *["before_epoch"] * (event == "before_epoch"), "after_training"]
    assert loop.end == "finished"


def test_a_termination_after_the_end_changes_nothing() -> None:
    record = RecordEvents()
    hooks = [At("after_epoch", 1, terminate), At("after_training", 1, terminate), record]
    MainLoop(FakeModel(), FakeDataset(train=batches(1)), hooks).run_training()
    assert record.main_loop.end == "finished"
    assert record.events[-1] == ("after_training", {"success": True})


def test_a_step_is_finished_before_a_termination_takes_effect() -> None:
    record = RecordEvents()
    dataset = FakeDataset(train=[*batches(1, ends_step=False), *batches(1), *batches(1)])
    loop = MainLoop(FakeModel(), dataset, [At("train", 1, terminate), record], skip_zeroth_epoch=True)
    loop.run_training()
    assert record.names.count("after_batch") == 2
    assert loop.position.step == 1


def test_a_finished_run_that_is_resumed_trains_nothing(tmp_path: Path) -> None:
    from emloop_mtl.hooks import SaveLatest, StopAfter

    def loop(steps: int) -> tuple[MainLoop, FakeModel]:
        model, dataset = FakeModel(), FakeDataset(train=batches(1, 1, 1))
        return MainLoop(model, dataset, [SaveLatest(), StopAfter(steps=steps)], output_dir=tmp_path), model

    loop(4)[0].run_training()
    checkpoint = newest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint.finished
    assert checkpoint.position.step == 4
    for steps in (4, 6):
        resumed, model = loop(steps)
        resumed.restore(checkpoint)
        resumed.run_training()
        assert (resumed.position.step, model.trained, resumed.end) == (steps, steps, "finished")


@pytest.mark.parametrize("limit", [{"epochs": 1}, {"steps": 2}, {"minutes": 1e-9}])
def test_a_finished_run_of_unknown_length_trains_nothing_more(limit: dict[str, Any], tmp_path: Path) -> None:
    from emloop_mtl.hooks import SaveLatest, StopAfter

    class Two:
        def train_stream(self) -> Iterator[dict[str, Any]]:
            return ({"x": [number]} for number in range(2))

    def loop() -> tuple[MainLoop, FakeModel]:
        model = FakeModel()
        return MainLoop(model, Two(), [SaveLatest(), StopAfter(**limit)], output_dir=tmp_path), model

    first, model = loop()
    first.run_training()
    resumed, again = loop()
    resumed.restore(newest_checkpoint(tmp_path / "checkpoints"))
    resumed.run_training()
    assert (resumed.end, again.trained, again.evaluated) == ("finished", model.trained, 0)
    assert resumed.position == first.position


def test_an_error_of_a_hook_at_the_end_fails_the_run() -> None:
    record = RecordEvents()
    hooks = [At("after_epoch", 1, terminate), At("after_training", 1, fail), record]
    loop = MainLoop(FakeModel(), FakeDataset(train=batches(1)), hooks)
    with pytest.raises(RuntimeError, match="broken"):
        loop.run_training()
    assert loop.end == "failed"
    assert record.names[-1] == "after_training"


def test_a_signal_is_told_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        end_of(At("train", 4, stop), tmp_path)
    assert "SIGTERM: ending at the next border" in caplog.text
    assert "Training interrupted: caught SIGTERM" in caplog.text
