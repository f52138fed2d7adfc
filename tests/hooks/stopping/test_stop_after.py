from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.checkpoint import newest_checkpoint
from emloop_mtl.data.abstract_dataset import AbstractDataset
from emloop_mtl.data.batch import Batch
from emloop_mtl.errors import ConfigError
from emloop_mtl.hooks import SaveLatest, StopAfter
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.testing import FakeDataset, FakeModel, RecordEvents, run_hook

TEN = FakeDataset(train=[{"x": [number]} for number in range(10)], valid=[{"x": [0]}] * 3)
"""Ten steps per epoch."""


class Clock(AbstractHook):
    """Stands for the time: every batch takes ``seconds``."""

    now = 0.0

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        Clock.now += self._seconds


@pytest.fixture
def tick(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], Clock]:
    monkeypatch.setattr("emloop_mtl.hooks.stopping.stop_after.monotonic", lambda: Clock.now)
    return Clock


@pytest.mark.parametrize(
    ("limits", "position"),
    [
        ({"epochs": 2}, (2, 20)),
        ({"steps": 7}, (0, 7)),
        ({"steps": 13}, (1, 13)),
        ({"epochs": 1, "steps": 13}, (1, 10)),
        ({"epochs": 2, "steps": 13}, (1, 13)),
    ],
)
def test_the_first_limit_ends_the_training(limits: dict[str, int], position: tuple[int, int]) -> None:
    record = run_hook(StopAfter(**limits), dataset=TEN, extra_streams=["valid"], epochs=9)
    assert record.main_loop.position[:2] == position
    assert record.main_loop.end == "finished"
    assert record.main_loop.total_steps == position[1]


@pytest.mark.parametrize(
    ("steps", "size", "epochs"),
    [
        (20, None, 2),
        (21, None, 2),
        (19, None, 1),
        (9, 3, 3),
        (10, 3, 3),
        (10, {"samples": 5}, 2),
        (11, {"samples": 5}, 2),
        (15, {"passes": 0.5}, 3),
        (14, {"passes": 0.5}, 2),
    ],
)
def test_an_epoch_that_ends_with_the_last_step_is_evaluated(steps: int, size: Any, epochs: int) -> None:
    loop = {"fixed_epoch_size": size, "skip_zeroth_epoch": True, "extra_streams": ["valid"]}
    record = run_hook(StopAfter(steps=steps), dataset=TEN, epochs=9, **loop)
    assert record.main_loop.position[:2] == (epochs, steps)
    assert record.main_loop.end == "finished"
    assert record.names.count("after_epoch") == epochs
    batches = [event["stream_name"] for name, event in record.events if name == "after_batch"]
    assert (batches.count("train"), batches.count("valid")) == (steps, 3 * epochs)


@pytest.mark.parametrize(("seconds", "position", "batches"), [(6, (1, 10), 13), (7, (0, 9), 9)])
def test_minutes_leave_an_epoch_whole_that_ends(
    seconds: float, position: tuple[int, int], batches: int, tick: Callable[[float], Clock]
) -> None:
    hooks = [tick(seconds), StopAfter(minutes=1)]
    record = run_hook(*hooks, dataset=TEN, epochs=9, skip_zeroth_epoch=True, extra_streams=["valid"])
    assert (record.main_loop.position[:2], record.names.count("after_batch")) == (position, batches)


def test_steps_count_where_a_step_ends(tmp_path: Path) -> None:
    pairs = [Batch({"x": [number]}, ends_step=bool(number % 2)) for number in range(10)]
    model = FakeModel()
    record = run_hook(StopAfter(steps=3), dataset=FakeDataset(train=pairs), model=model, skip_zeroth_epoch=True)
    assert (record.main_loop.position.step, model.trained) == (3, 6)


def test_minutes_end_the_training_at_the_end_of_a_step(tick: Callable[[float], Clock]) -> None:
    # the zeroth epoch takes 13 batches of 10 s: longer than the limit, but only training steps and epochs' ends stop
    record = run_hook(tick(10), StopAfter(minutes=3.5), dataset=TEN, extra_streams=["valid"], epochs=9)
    assert record.main_loop.position[:2] == (0, 8)  # 130 s + 8 x 10 s = 3.5 min
    record = run_hook(tick(10), StopAfter(minutes=1), dataset=TEN, extra_streams=["valid"], epochs=9)
    assert record.main_loop.position[:2] == (0, 0)
    assert record.names[-2:] == ["after_epoch_profile", "after_training"]


def test_time_counts_over_resumes_and_not_between_them(tick: Callable[[float], Clock], tmp_path: Path) -> None:
    def loop(steps: int | None, minutes: float) -> MainLoop:
        hooks = [tick(10), SaveLatest(), StopAfter(steps=steps, minutes=minutes)]
        return MainLoop(FakeModel(), TEN, hooks, skip_zeroth_epoch=True, output_dir=tmp_path)

    loop(steps=3, minutes=1).run_training()
    Clock.now += 1000
    resumed = loop(steps=None, minutes=1)
    resumed.restore(newest_checkpoint(tmp_path / "checkpoints"))
    Clock.now += 1000
    resumed.run_training()
    assert resumed.position.step == 6


@pytest.mark.parametrize(("first", "second"), [({"epochs": 2}, {"epochs": 1}), ({"epochs": 2}, {"epochs": 2})])
def test_a_training_resumed_past_its_limit_ends_at_once(
    first: dict[str, int], second: dict[str, int], tmp_path: Path
) -> None:
    def loop(limits: dict[str, int]) -> tuple[MainLoop, RecordEvents]:
        record = RecordEvents()
        hooks = [record, SaveLatest(), StopAfter(**limits)]
        return MainLoop(FakeModel(), TEN, hooks, output_dir=tmp_path), record

    loop(first)[0].run_training()
    resumed, record = loop(second)
    resumed.restore(newest_checkpoint(tmp_path / "checkpoints"))
    resumed.run_training()
    assert resumed.position[:2] == (2, 20)
    assert "after_batch" not in record.names
    assert resumed.end == "finished"


def test_the_length_in_steps_is_known_as_far_as_possible() -> None:
    class Endless(AbstractDataset):
        def train_stream(self) -> Iterator[dict[str, list[int]]]:
            while True:
                yield {"x": [1]}

    unknown = Endless()
    for limits, expected in (({"epochs": 3}, None), ({"epochs": 3, "steps": 5}, 5), ({"minutes": 1.0}, None)):
        hook = StopAfter(**limits)
        MainLoop(FakeModel(), unknown, [hook])
        assert hook.max_steps() == expected
    hook = StopAfter(epochs=3)
    MainLoop(FakeModel(), unknown, [hook], fixed_epoch_size=4)
    assert hook.max_steps() == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give at least one of epochs, steps and minutes"),
        ({"iterations": 5}, "the argument 'iterations' is called 'steps' here"),
        ({"epochs": 1, "train_stream_name": "train"}, "the argument 'train_stream_name' is gone: main_loop"),
        ({"epochs": 0}, "epochs must be a positive whole number, not 0"),
        ({"steps": 1.5}, "steps must be a positive whole number, not 1.5"),
        ({"steps": True}, "steps must be a positive whole number, not True"),
        ({"minutes": -1}, "minutes must be a positive number, not -1"),
        ({"minutes": float("nan")}, "minutes must be a positive number, not nan"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        StopAfter(**arguments)
