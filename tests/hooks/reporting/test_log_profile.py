from __future__ import annotations

import logging
from typing import Any

import pytest

from emloop_mtl import hook_list, main_loop
from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.data import stream_wrapper
from emloop_mtl.hooks import LogProfile
from emloop_mtl.testing import FakeDataset, run_hook


class Clock:
    """Stands for the time, which passes only where a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Spend(AbstractHook):
    """Spend seconds at events."""

    def __init__(self, clock: Clock, batch: float, epoch: float) -> None:
        super().__init__()
        self._clock, self._batch, self._epoch = clock, batch, epoch

    def requires(self) -> tuple[str, ...]:
        return ()

    def after_batch(self, stream_name: str, batch_data: Any) -> None:
        self._clock.now += self._batch

    def after_epoch(self, epoch_id: int, epoch_data: Any) -> None:
        self._clock.now += self._epoch


class Announce(Spend):
    """Spend seconds before epochs, too."""

    def before_epoch(self, epoch_id: int, train_streams: list[str], eval_streams: list[str]) -> None:
        self._clock.now += self._epoch


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Clock:
    clock = Clock()
    for module in (hook_list, main_loop, stream_wrapper):
        monkeypatch.setattr(module, "perf_counter", clock)
    caplog.set_level(logging.INFO, "emloop_mtl.hooks.reporting.log_profile")
    return clock


def lines_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.endswith("log_profile")]


def run(clock: Clock, *hooks: AbstractHook, batches: int = 100, **options: Any) -> None:
    def work(batch: Any) -> float:
        clock.now += 0.5
        return 1.0

    dataset = FakeDataset(train=[{"x": [1]}] * batches, valid=[{"x": [1]}] * 10)
    run_hook(*hooks, LogProfile(), dataset=dataset, outputs={"loss": work}, skip_zeroth_epoch=True, **options)


def test_the_time_is_told_by_what_it_goes_to_and_hooks_by_name(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    run(clock, Spend(clock, 0.125, 2.0), Announce(clock, 0.25, 1.0), extra_streams=["valid"])
    # 110 batches: 0.5 s of the model, 0.125 and 0.25 s of hooks; 2 and 1 s after the epoch, 1 s before it
    total = 50 + 5 + 110 * 0.375 + 3 + 1
    assert lines_of(caplog) == [
        f"epoch 1  time {total:.3g} s  waiting for data 0 s (0.0 %)  train 50 s ({5000 / total:.1f} %)  "
        f"valid 5 s ({500 / total:.1f} %)  hooks 45.2 s ({4525 / total:.1f} %)",
        f"epoch 1  hooks  Announce 29.5 s ({2950 / total:.1f} %)  Spend 15.8 s ({1575 / total:.1f} %)",
    ]


def test_hooks_that_take_next_to_nothing_are_not_named(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    run(clock, Spend(clock, 0.0001, 0.0), extra_streams=[])
    assert lines_of(caplog) == [
        "epoch 1  time 50 s  waiting for data 0 s (0.0 %)  train 50 s (100.0 %)  hooks 0.01 s (0.0 %)"
    ]


def test_each_epoch_is_told_by_itself(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    run(clock, Spend(clock, 0.5, 0.0), batches=3, extra_streams=[], epochs=3)
    assert lines_of(caplog) == [
        line
        for epoch in (1, 2, 3)
        for line in (
            f"epoch {epoch}  time 3 s  waiting for data 0 s (0.0 %)  train 1.5 s (50.0 %)  hooks 1.5 s (50.0 %)",
            f"epoch {epoch}  hooks  Spend 1.5 s (50.0 %)",
        )
    ]
