from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.errors import ConfigError
from emloop_mtl.hooks import ComputeStats
from emloop_mtl.hooks.reporting.log_variables import LogVariables
from emloop_mtl.testing import run_hook
from emloop_mtl.types import EpochData, EpochNumber

LOGGER = "emloop_mtl.hooks.reporting.log_variables"


class Put(AbstractHook):
    """Write given numbers into each epoch."""

    def __init__(self, offers: bool = True, **streams: Mapping[str, Any]) -> None:
        super().__init__()
        self._streams, self._offers = streams, offers

    def provides(self) -> list[str | EpochNumber] | None:
        names = {name for numbers in self._streams.values() for name in numbers}
        return [EpochNumber(name) for name in names] if self._offers else None

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        for stream, numbers in self._streams.items():
            epoch_data.setdefault(stream, {}).update(numbers)


def logged(caplog: pytest.LogCaptureFixture, *hooks: AbstractHook) -> list[str]:
    """Return what is logged in the first training epoch."""
    with caplog.at_level(logging.INFO, logger=LOGGER):
        run_hook(*hooks, skip_zeroth_epoch=True)
    return [record.getMessage() for record in caplog.records if record.name == LOGGER]


def test_each_stream_and_task_has_a_line(caplog: pytest.LogCaptureFixture) -> None:
    put = Put(
        train={"loss": {"mean": torch.tensor(0.25, dtype=torch.float64)}},
        valid={
            "digit/digits/loss": 0.1234,
            "digit/digits/accuracy": np.float64(0.9712),
            "parity/digits/f1": 1e-5,
        },
        all={"model/all/macro_average": 0.5},
    )
    assert logged(caplog, put, LogVariables()) == [
        "epoch 1  train          loss 0.2500",
        "epoch 1  valid  digit:  loss 0.1234  accuracy 0.9712",
        "epoch 1  valid  parity: f1 1.000e-05",
        "epoch 1  all    model:  macro_average 0.5000",
    ]


def test_datasets_of_a_task_are_told_apart(caplog: pytest.LogCaptureFixture) -> None:
    put = Put(valid={"digit/mnist/f1": 0.1, "digit/usps/f1": 0.2, "digit/loss": {"mean": 3.0, "max": float("inf")}})
    assert logged(caplog, put, LogVariables()) == [
        "epoch 1  valid  digit/mnist: f1 0.1000",
        "epoch 1  valid  digit/usps:  f1 0.2000",
        "epoch 1  valid  digit:       loss 3.0000  loss/max inf",
    ]


def test_whole_numbers_have_no_decimals(caplog: pytest.LogCaptureFixture) -> None:
    put = Put(valid={"count": 1234567, "empty": np.int64(0), "small": 0.0, "huge": 2e6, "right": True})
    assert logged(caplog, put, LogVariables()) == [
        "epoch 1  valid  count 1234567  empty 0  small 0.0000  huge 2.000e+06  right 1"
    ]


def test_only_named_variables_are_logged_where_they_are(caplog: pytest.LogCaptureFixture) -> None:
    put = Put(train={"loss": 1.0, "other": 2.0}, valid={"score": 3.0, "other": 4.0})
    assert logged(caplog, put, LogVariables(variables=["score", "loss"])) == [
        "epoch 1  train  loss 1.0000",
        "epoch 1  valid  score 3.0000",
    ]


def test_a_variable_that_nothing_provides_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"LogVariables requires the number 'los'.*did you mean 'loss'"):
        run_hook(Put(train={"loss": 1.0}), LogVariables(variables=["los"]))


def test_a_named_variable_may_have_aggregations_other_than_the_mean(caplog: pytest.LogCaptureFixture) -> None:
    stats = ComputeStats([{"loss": ["min", "max"]}])
    lines = logged(caplog, stats, LogVariables(variables=["loss"]))
    assert lines[0] == "epoch 1  train  loss/min 1.0000  loss/max 1.0000"


def test_what_is_no_number_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    assert logged(caplog, Put(valid={"list": [1], "loss": 1.0}), LogVariables()) == ["epoch 1  valid  loss 1.0000"]
    assert logged(caplog, Put(valid={"list": [1]}), LogVariables())[1:] == []


def test_what_is_no_number_can_be_logged_as_text(caplog: pytest.LogCaptureFixture) -> None:
    put = Put(valid={"list": {"first": [1], "mean": 2.0}})
    assert logged(caplog, put, LogVariables(on_unknown_type="str")) == ["epoch 1  valid  list/first [1]  list 2.0000"]


def test_what_is_no_number_can_be_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    lines = logged(caplog, Put(valid={"list": [1]}), LogVariables(on_unknown_type="warn"))
    assert lines == ["LogVariables: 'list' of stream 'valid' is no number (list)"]
    assert caplog.records[0].levelno == logging.WARNING


def test_what_is_no_number_can_be_an_error() -> None:
    with pytest.raises(ConfigError, match=r"'list' of stream 'valid' is no number \(list\); set on_unknown_type"):
        run_hook(Put(valid={"list": [1]}), LogVariables(on_unknown_type="error"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"on_unknown_type": "wran"}, "did you mean 'warn'"),
        ({"variables": "loss"}, r"such as \[loss\]"),
        ({"variable": ["loss"]}, "did you mean 'variables'"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LogVariables(**arguments)


def test_numbers_that_come_too_late_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    run_hook(LogVariables(), Put(valid={"loss": 1.0}))
    assert "LogVariables misses the numbers of Put: list it after Put" in caplog.text


def test_it_acts_in_evaluation() -> None:
    assert not LogVariables.training_only
