from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import pytest

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.errors import ConfigError
from emloop_mtl.hooks import ComputeStats, StopOnPlateau
from emloop_mtl.testing import run_hook


class Write(AbstractHook):
    """Write given numbers, one per epoch; None writes nothing."""

    def __init__(self, values: Iterable[float | None]) -> None:
        super().__init__()
        self._values = list(values)

    def after_epoch(self, epoch_id: int, epoch_data: dict[str, Any]) -> None:
        if epoch_id < len(self._values) and self._values[epoch_id] is not None:
            epoch_data["valid"]["loss"] = self._values[epoch_id]


def last_epoch(values: Iterable[float | None], hook: StopOnPlateau) -> int:
    return run_hook(Write(values), hook, epochs=20).main_loop.position.epoch


@pytest.mark.parametrize(
    ("values", "mode", "stopped_in"),
    [
        # the means over 4 and 2 values; the first values are the same ones
        ([4, 3, 2, 1, 1, 1, 2, 3], "min", 6),  # (1+1+1+2)/4 < (1+2)/2
        ([4, 3, 2, 1, 1, 1, 1, 1], "min", 20),  # equal is not worse
        ([1, 2, 3, 4, 4, 4, 3, 3], "max", 6),  # (4+4+4+3)/4 > (4+3)/2
        ([1, 2, 9, 9], "min", 2),  # (1+2+9)/3 < (2+9)/2: acts before there are 4 values
        ([1, 9], "min", 20),
        ([4, None, 3, None, float("nan"), 6, 7], "min", 5),  # 4 3 6: absent and nan are no values
        ([3, float("inf"), 1, 1, 1, 1], "min", 20),  # (inf+inf)/2 is not worse; later the short mean is finite
    ],
)
def test_it_stops_when_the_last_values_are_worse_than_those_over_a_longer_time(
    values: list[float | None], mode: str, stopped_in: int
) -> None:
    assert last_epoch(values, StopOnPlateau(long_term=4, short_term=2, mode=mode)) == stopped_in


def test_state_keeps_as_many_values_as_count() -> None:
    hook = StopOnPlateau(long_term=3, short_term=1)
    run_hook(Write([5, 4, 3, 2, 1]), hook, epochs=4)
    assert hook.state_dict() == {"values": [3.0, 2.0, 1.0]}
    resumed = StopOnPlateau(long_term=3, short_term=1)
    resumed.load_state_dict(hook.state_dict())
    assert run_hook(Write([1.5]), resumed, epochs=4).main_loop.position.epoch == 4  # (1+2+1.5)/3 = 1.5
    resumed.load_state_dict(hook.state_dict())
    assert run_hook(Write([1.6]), resumed, epochs=4).main_loop.position.epoch == 0


def test_a_variable_of_which_the_wanted_number_is_missing_is_an_error() -> None:
    stats = ComputeStats([{"loss": ["min", "max"]}])
    with pytest.raises(ConfigError, match="which has the aggregations max, min: set 'aggregation' to one of them"):
        run_hook(stats, StopOnPlateau())
    run_hook(ComputeStats([{"loss": ["min", "max"]}]), StopOnPlateau(aggregation="max"))


def test_a_number_that_nothing_writes_is_an_error_before_the_first_batch() -> None:
    with pytest.raises(ConfigError, match="did you mean 'loss'"):
        run_hook(ComputeStats(["loss"]), StopOnPlateau(variable="los"))


def test_a_stream_that_is_not_evaluated_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        run_hook(ComputeStats(["loss"]), StopOnPlateau(stream="valid"), extra_streams=[])
    assert (
        "StopOnPlateau watches stream 'valid', but neither Evaluate nor main_loop.extra_streams lists it" in caplog.text
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"objective": "max"}, "the argument 'objective' is called 'mode' here"),
        ({"mode": "mx"}, "mode must be 'min' or 'max', not 'mx'"),
        ({"long_term": 10}, "long_term must be more than short_term"),
        ({"short_term": 0}, "short_term must be a positive whole number"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        StopOnPlateau(**arguments)


def test_an_unknown_stream_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"StopOnPlateau: .*did you mean 'valid'") as error:
        run_hook(StopOnPlateau(stream="vaild"))
    assert error.value.path == ("stream",)
