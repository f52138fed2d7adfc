"""Check: a number that has to reach its level in time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.errors import ConfigError, EmloopError
from emloop_mtl.hooks import Check, StopAfter
from emloop_mtl.testing import RecordEvents, run_hook
from emloop_mtl.types import EpochData


class Write(AbstractHook):
    """Write a number after each epoch, from the zeroth on; None for none."""

    def __init__(self, values: Sequence[Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._values = values

    def requires(self) -> tuple[str, ...]:
        return ()

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        value = self._values[epoch_id]
        if value is not None:
            epoch_data["valid"]["score"] = value


def run(values: Sequence[Any], **arguments: Any) -> RecordEvents:
    settings = {"variable": "score", "required_min_value": 0.9, "max_epoch": 3, **arguments}
    return run_hook(Write(values), Check(**settings), epochs=9)


@pytest.mark.parametrize(
    ("values", "last"),
    [
        ([0.95], 0),
        ([0.1, 0.9, 0.91], 2),
        ([0.1, {"mean": 0.2}, {"mean": 0.8, "max": 1.0}, {"mean": 0.99}], 3),
        ([0.1, float("nan"), None, 0.95], 3),
    ],
    ids=["zeroth", "equal is not enough", "mean", "missing"],
)
def test_the_training_ends_after_the_epoch_that_is_good_enough(values: list[Any], last: int) -> None:
    record = run(values)
    assert max(record.epochs) == last
    assert record.main_loop.end == "finished"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([0.0, 0.1, 0.2, 0.9], "Check: score of stream valid is 0.9 after epoch 3, and has to be more than 0.9"),
        ([0.0, 0.1, 0.2, None], "Check: score of stream valid has no number after epoch 3, and has to be more than"),
    ],
    ids=["too low", "missing"],
)
def test_a_training_that_is_not_good_enough_in_time_fails(values: list[Any], says: str) -> None:
    with pytest.raises(ValueError, match="by the end of epoch 3") as caught:
        run(values)
    assert str(caught.value).startswith(says)
    assert isinstance(caught.value, EmloopError), "the command tells it in one line, with exit code 1"


def test_another_aggregation_can_be_watched() -> None:
    assert max(run([{"mean": 0.1, "max": 0.95}], aggregation="max").epochs) == 0


def test_the_last_epoch_is_how_long_the_training_can_be() -> None:
    check = Check("score", 0.9, 3)
    record = run_hook(Write([0.0, 0.0, 0.95]), check, StopAfter(epochs=8), epochs=9)
    assert record.main_loop.total_steps == 3 * 2, "three epochs of two steps"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"required_min_value": "high"}, "required_min_value must be a finite number, not 'high'"),
        ({"required_min_value": float("nan")}, "required_min_value must be a finite number, not nan"),
        ({"max_epoch": 0}, "max_epoch must be a positive whole number, not 0"),
        ({"stream": "vald"}, "did you mean 'valid'?"),
        ({"variable": "skore"}, "which nothing has written in the first epoch; did you mean 'score'?"),
    ],
    ids=["text", "nan", "epoch", "stream", "variable"],
)
def test_mistakes_are_told_by_the_zeroth_epoch(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        run([0.95], **arguments)
    assert says in str(caught.value)
