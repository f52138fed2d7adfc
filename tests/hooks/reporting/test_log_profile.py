from __future__ import annotations

import logging
from typing import Any

import pytest

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.hooks import LogProfile
from emloop_mtl.testing import FakeDataset, run_hook

from ..clock import Announce, Clock, Spend


@pytest.fixture(autouse=True)
def _told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "emloop_mtl.hooks.reporting.log_profile")


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
