"""Where epochs end."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emloop_mtl.data.epoch_size import EpochSize
from emloop_mtl.data.stream_position import StreamPosition
from emloop_mtl.errors import ConfigError


def cuts(size: Any, epochs: int, samples_per_step: int = 1, pass_steps: int | None = None) -> list[int]:
    """The steps after which epochs end."""
    position, setting = StreamPosition(), EpochSize(size)
    found: list[int] = []
    while len(found) < epochs:
        position.begin_epoch()
        while not setting.is_reached(position, pass_steps):
            position.consume(samples_per_step, ends_step=True)
        position.end_epoch()
        found.append(position.steps)
    return found


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 30))
def test_there_is_no_drift(numerator: int, denominator: int, pass_steps: int) -> None:
    ends = cuts({"passes": numerator / denominator}, 30, pass_steps=pass_steps)
    size = Fraction(numerator, denominator) * pass_steps
    expected, last = [], 0
    for epoch in range(1, 31):
        last = max(last + 1, -(-epoch * size.numerator // size.denominator))
        expected.append(last)
    assert ends == expected


def test_units() -> None:
    assert cuts(3, 3) == [3, 6, 9]
    assert cuts({"samples": 10}, 5, samples_per_step=4) == [3, 5, 8, 10, 13]
    assert cuts({"samples": 3}, 3, samples_per_step=4) == [1, 2, 3]
    assert cuts({"passes": 0.5}, 4, pass_steps=5) == [3, 5, 8, 10]
    assert cuts({"passes": 2}, 2, pass_steps=5) == [10, 20]


@pytest.mark.parametrize(
    ("size", "pass_steps", "steps"),
    [
        (None, 7, 7),
        (-1, 7, 7),
        (None, None, None),
        (5, None, 5),
        ({"samples": 5}, 7, None),
        ({"passes": 0.5}, 8, 4),
        ({"passes": 0.1}, 30, 3),
        ({"passes": 0.5}, 7, None),
    ],
)
def test_steps_of_an_epoch(size: Any, pass_steps: int | None, steps: int | None) -> None:
    assert EpochSize(size).steps(pass_steps) == steps


@pytest.mark.parametrize(
    "size", [0, -2, 2.5, True, "3", {}, {"samples": 0}, {"samples": 1.5}, {"passes": float("nan")}, {"passes": 1e-9},
             {"passes": float("inf")}, {"batches": 3}, {"samples": 1, "passes": 1}, {"passes": None}]
)  # fmt: skip
def test_sizes_that_are_none(size: Any) -> None:
    with pytest.raises(ConfigError, match=r"^main_loop\.fixed_epoch_size: ") as caught:
        EpochSize(size)
    assert caught.value.path == ("main_loop", "fixed_epoch_size")


def test_passes_need_a_length() -> None:
    with pytest.raises(ConfigError, match=r"main_loop\.fixed_epoch_size: a size in passes needs"):
        EpochSize({"passes": 1}).check(None)


@pytest.mark.parametrize(
    ("setting", "epochs", "pass_steps", "steps"),
    [
        (None, 3, 7, 21),
        (None, 3, None, None),
        (5, 3, None, 15),
        ({"passes": 0.5}, 4, 7, 14),
        ({"passes": 0.5}, 3, 7, 11),
        ({"passes": 0.1}, 3, 2, 3),
        ({"samples": 10}, 3, 7, None),
    ],
)
def test_the_steps_of_several_epochs(setting: Any, epochs: int, pass_steps: int | None, steps: int | None) -> None:
    assert EpochSize(setting).steps_of(epochs, pass_steps) == steps
