from __future__ import annotations

from typing import Any

import pytest

from emloop_mtl.abstract_hook import AbstractHook, TrainingTerminated
from emloop_mtl.config.config import Config
from emloop_mtl.config.create import create_hooks
from emloop_mtl.data.batch import Batch
from emloop_mtl.errors import ConfigError
from emloop_mtl.hooks import ComputeStats, EveryNEpoch, OnPlateau
from emloop_mtl.testing import run_hook
from emloop_mtl.types import EpochData


class Note(EveryNEpoch):
    """Note epochs and the loss in them."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.noted: list[tuple[int, Any]] = []

    def _after_n_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:  # type: ignore[override]
        self.noted.append((epoch_id, epoch_data["train"]["loss"]["mean"]))


@pytest.mark.parametrize(
    ("arguments", "epochs"),
    [
        ({}, [0, 1, 2, 3, 4, 5, 6]),
        ({"every": 1}, [0, 1, 2, 3, 4, 5, 6]),
        ({"every": 3}, [0, 3, 6]),
        ({"every": 9}, [0]),
    ],
)
def test_it_acts_after_every_nth_epoch_the_zeroth_among_them(arguments: dict[str, int], epochs: list[int]) -> None:
    hook = Note(**arguments)
    run_hook(ComputeStats(["loss"]), hook, epochs=6, outputs={"loss": 0.5})
    assert hook.noted == [(epoch, 0.5) for epoch in epochs]


def test_an_epoch_that_is_cut_short_is_none() -> None:
    class Cut(AbstractHook):
        def after_batch(self, stream_name: str, batch_data: Batch) -> None:
            if self.main_loop.position.step == 3:
                raise TrainingTerminated("cut")

    hook = Note(every=1)
    run_hook(ComputeStats(["loss"]), hook, Cut(), epochs=3)
    assert [epoch for epoch, _ in hook.noted] == [0, 1]


def test_it_cannot_be_listed_itself() -> None:
    parts = {name.lower(): {"class": f"emloop_mtl.testing.Fake{name}"} for name in ("Dataset", "Model")}
    with pytest.raises(ConfigError, match=r"EveryNEpoch does nothing by itself: list a class .* '_after_n_epoch'"):
        EveryNEpoch()
    with pytest.raises(Exception, match=r"hooks\[0\] EveryNEpoch: .*inherits from it and overrides") as info:
        create_hooks(Config({**parts, "hooks": [{"EveryNEpoch": {"every": 2}}]}), None, None)
    assert "\n" not in str(info.value)
    with pytest.raises(ConfigError, match="Idle: override '_after_n_epoch', which EveryNEpoch calls"):
        type("Idle", (EveryNEpoch,), {})()


@pytest.mark.parametrize(("base", "method"), [(EveryNEpoch, "_after_n_epoch"), (OnPlateau, "_on_plateau_action")])
def test_a_method_that_takes_other_arguments_is_refused_at_once(base: type[AbstractHook], method: str) -> None:
    def act(self: Any, epoch: int) -> None: ...

    with pytest.raises(ConfigError, match=rf"Odd\.{method} must take the arguments \(epoch_id, epoch_data\): .*epoch'"):
        type("Odd", (base,), {method: act})()


@pytest.mark.parametrize("every", [0, -1, 1.5, True, "2"])
def test_a_wrong_number_of_epochs(every: Any) -> None:
    with pytest.raises(ConfigError, match="Note: every must be a positive whole number") as info:
        Note(every=every)
    assert info.value.path == ("every",)


def test_a_class_of_ones_own_says_the_new_name_of_an_old_argument() -> None:
    with pytest.raises(ConfigError, match="Note: the argument 'n_epochs' is called 'every' here"):
        Note(n_epochs=2)
    with pytest.raises(ConfigError, match="Note: unknown argument 'evry'; did you mean 'every'"):
        Note(evry=2)
