from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.config.config import Config
from emloop_mtl.config.create import create_hooks
from emloop_mtl.errors import ConfigError
from emloop_mtl.hooks import ComputeStats, LogVariables, OnPlateau, StopOnPlateau
from emloop_mtl.testing import run_hook
from emloop_mtl.types import EpochData, EpochNumber


class Write(AbstractHook):
    """Write given numbers, one per epoch; None writes nothing."""

    def __init__(self, values: Iterable[float | None]) -> None:
        super().__init__()
        self._values = list(values)

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        if epoch_id < len(self._values) and self._values[epoch_id] is not None:
            epoch_data["valid"]["loss"] = self._values[epoch_id]


class Note(OnPlateau):
    """Note the epochs of plateaus and the number that was watched there."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.noted: list[tuple[int, Any]] = []

    def _on_plateau_action(self, epoch_id: int, epoch_data: EpochData) -> None:  # type: ignore[override]
        self.noted.append((epoch_id, epoch_data["valid"]["loss"]))


@pytest.mark.parametrize(
    ("values", "mode", "acted_in"),
    [
        # the means over 4 and 2 values; epoch 3: 2.5 = 2.5, then 2.5 < 3.5, 3.5 < 4.5, 3.25 > 3
        ([4, 1, 2, 3, 4, 5, 1, 1], "min", [4, 5]),
        ([1, 4, 3, 2, 1, 0, 4, 4], "max", [4, 5]),
        ([3, 2, 1, 1, 1], "min", []),
        ([1, 9], "min", []),  # the two means are of the same values
        ([1, None, 9, float("nan"), 9], "min", [4]),  # acts before there are 4 values; none is no value
    ],
)
def test_it_acts_in_every_epoch_of_a_plateau(values: list[float | None], mode: str, acted_in: list[int]) -> None:
    hook = Note(long_term=4, short_term=2, mode=mode)
    run_hook(Write(values), hook, epochs=len(values) - 1)
    assert hook.noted == [(epoch, values[epoch]) for epoch in acted_in]


def test_an_epoch_without_the_number_is_no_plateau() -> None:
    hook = Note(long_term=3, short_term=1)
    run_hook(Write([1, 2, None, None, 1]), hook, epochs=4)
    assert hook.noted == [(1, 2)]


def test_a_resumed_training_knows_the_values_before() -> None:
    hook = Note(long_term=3, short_term=1)
    run_hook(Write([5, 4, 3, 2]), hook, epochs=3)
    assert hook.state_dict() == {"values": [4.0, 3.0, 2.0]}
    resumed = Note(long_term=3, short_term=1)
    resumed.load_state_dict(hook.state_dict())
    run_hook(Write([2.6]), resumed, epochs=1)
    assert resumed.noted == [(0, 2.6)]  # (3 + 2 + 2.6) / 3 < 2.6
    assert resumed.state_dict() == {"values": [3.0, 2.0, 2.6]}


def test_what_it_does_may_write_numbers_for_hooks_after_it() -> None:
    class Flag(OnPlateau):
        def _on_plateau_action(self, epoch_data: EpochData, **kwargs: Any) -> None:  # type: ignore[override]
            epoch_data["valid"]["plateau"] = 1.0

    record = run_hook(Write([2, 3]), Flag(long_term=2, short_term=1), LogVariables(), epochs=1)
    assert record.epochs[1]["valid"]["plateau"] == 1.0
    assert Flag().provides() is None
    assert StopOnPlateau().provides() == ()


def test_it_requires_the_number() -> None:
    assert Note(stream="train", variable="a", aggregation="max").requires() == (EpochNumber("a", "train", "max"),)
    with pytest.raises(ConfigError, match="Note requires the number 'los' .* did you mean 'loss'"):
        run_hook(ComputeStats(["loss"]), Note(variable="los"))


def test_it_cannot_be_listed_itself() -> None:
    parts = {name.lower(): {"class": f"emloop_mtl.testing.Fake{name}"} for name in ("Dataset", "Model")}
    with pytest.raises(ConfigError, match=r"OnPlateau does nothing by itself: list a class .* '_on_plateau_action'"):
        OnPlateau()
    with pytest.raises(Exception, match=r"hooks\[0\] OnPlateau: .*inherits from it and overrides") as info:
        create_hooks(Config({**parts, "hooks": ["OnPlateau"]}), None, None)
    assert "\n" not in str(info.value)
    with pytest.raises(ConfigError, match="Idle: override '_on_plateau_action', which OnPlateau calls"):
        type("Idle", (OnPlateau,), {})()


def test_a_class_of_ones_own_says_the_new_name_of_an_old_argument() -> None:
    with pytest.raises(ConfigError, match="Note: the argument 'objective' is called 'mode' here"):
        Note(objective="max")
    with pytest.raises(ConfigError, match="Note: unknown argument 'long_tern'; did you mean 'long_term'"):
        Note(long_tern=3)
