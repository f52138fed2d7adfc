"""Schedules against torch's own schedulers, and what they refuse."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from emloop_mtl.errors import ConfigError
from emloop_mtl.optim.schedules.abstract_schedule import AbstractSchedule
from emloop_mtl.optim.schedules.by_name import SCHEDULES, create_schedule
from emloop_mtl.optim.schedules.plateau import Plateau

MakeScheduler = Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler]

STEPS = 60

RATES = st.lists(st.floats(1e-6, 10), min_size=1, max_size=3)
GAMMAS = st.floats(0.01, 1.2)
MOMENTA = st.floats(0.1, 0.99)


def optimizer_of(bases: list[float], kind: type[torch.optim.Optimizer] = torch.optim.SGD) -> torch.optim.Optimizer:
    optimizer = kind([{"params": [torch.zeros(1)], "lr": base} for base in bases])  # type: ignore[call-arg]
    return optimizer


def assert_like_torchs(
    schedule: Any, make: MakeScheduler, bases: list[float], horizon: int = 0, min_lr: float = 0.0, steps: int = STEPS
) -> None:
    """Compare rates and momentums after each number of steps.

    Torch multiplies the rate of the step before where the functions here begin with the base: 60 roundings of 1e-16
    add up to 1e-14. Near the end of a half wave, where the cosine is almost -1, it is 1e-13 of the greater rate.
    """
    ours = create_schedule(schedule)
    ours.min_lr = min_lr
    optimizer = optimizer_of(bases)
    ours.prepare(optimizer_of(bases).param_groups)
    scheduler = make(optimizer)
    optimizer.step()  # or torch warns
    for x in range(steps):
        if x:
            scheduler.step()
        tolerance = 1e-12 * max(*bases, min_lr)
        theirs = [group["lr"] for group in optimizer.param_groups]
        assert ours.rates(bases, x, horizon) == pytest.approx(theirs, rel=1e-12, abs=tolerance), x
        momentums = ours.momentums(x, horizon)
        if momentums is not None:
            theirs = [group["momentum"] for group in optimizer.param_groups]
            # Versions of torch may take the same products in another order.
            assert momentums == pytest.approx(theirs, rel=1e-12), x


@given(RATES)
def test_none(bases: list[float]) -> None:
    assert_like_torchs("none", lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda x: 1), bases)


@given(RATES, st.integers(STEPS, 1000))
def test_linear(bases: list[float], horizon: int) -> None:
    assert_like_torchs(
        "linear",
        lambda optimizer: lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=horizon),
        bases,
        horizon,
    )


@given(RATES, GAMMAS)
def test_exponential(bases: list[float], gamma: float) -> None:
    schedule = {"class": "exponential", "gamma": gamma}
    assert_like_torchs(schedule, lambda optimizer: lr_scheduler.ExponentialLR(optimizer, gamma), bases)


@given(RATES, GAMMAS, st.integers(1, 70))
def test_step(bases: list[float], gamma: float, size: int) -> None:
    schedule = {"class": "step", "step_size": size, "gamma": gamma}
    assert_like_torchs(schedule, lambda optimizer: lr_scheduler.StepLR(optimizer, size, gamma), bases)


@given(RATES, GAMMAS, st.lists(st.integers(0, 70), min_size=1, max_size=8))
def test_multi_step(bases: list[float], gamma: float, milestones: list[int]) -> None:
    schedule = {"class": "multi_step", "milestones": milestones, "gamma": gamma}
    assert_like_torchs(schedule, lambda optimizer: lr_scheduler.MultiStepLR(optimizer, milestones, gamma), bases)


@given(RATES, st.integers(STEPS, 1000), st.floats(0, 0.1))
def test_cosine_annealing(bases: list[float], horizon: int, min_lr: float) -> None:
    assert_like_torchs(
        "cosine_annealing",
        lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, horizon, eta_min=min_lr),
        bases,
        horizon,
        min_lr,
    )


def options_of_each(count: int) -> st.SearchStrategy[Any]:
    """A rate for all groups, or a list of one for each."""
    return st.one_of(st.floats(1e-4, 1), st.lists(st.floats(1e-4, 1), min_size=count, max_size=count))


@given(st.data(), RATES, st.integers(1, 30), st.one_of(st.none(), st.integers(1, 30)))
def test_cyclic(data: st.DataObject, bases: list[float], up: int, down: int | None) -> None:
    mode = data.draw(st.sampled_from(["triangular", "triangular2", "exp_range"]))
    options = {
        "base_lr": data.draw(options_of_each(len(bases))),
        "max_lr": data.draw(options_of_each(len(bases))),
        "step_size_up": up,
        "step_size_down": down,
        "mode": mode,
        "gamma": data.draw(GAMMAS) if mode == "exp_range" else 1.0,
        "cycle_momentum": data.draw(st.booleans()),
        "base_momentum": data.draw(MOMENTA),
        "max_momentum": data.draw(MOMENTA),
    }
    schedule = {"class": "cyclic", **options}
    assert_like_torchs(schedule, lambda optimizer: lr_scheduler.CyclicLR(optimizer, **options), bases)


@pytest.mark.parametrize("scale_mode", ["cycle", "iterations"])
def test_cyclic_with_a_function_of_ones_own(scale_mode: str) -> None:
    options: dict[str, Any] = {"base_lr": 0.01, "max_lr": 0.3, "step_size_up": 4, "scale_mode": scale_mode}
    options["scale_fn"] = lambda n: 1 / (1 + n)
    schedule = {"class": "cyclic", **options}
    assert_like_torchs(schedule, lambda optimizer: lr_scheduler.CyclicLR(optimizer, **options), [0.1])


def test_cyclic_goes_on_where_halving_leaves_nothing() -> None:
    schedule = create_schedule({"class": "cyclic", "base_lr": 0.1, "mode": "triangular2", "step_size_up": 1})
    schedule.prepare(optimizer_of([0.1]).param_groups)
    assert schedule.rates([0.1], 10_001, 0) == [0.1]


@given(st.data(), RATES, st.integers(2, 200))
def test_one_cycle(data: st.DataObject, bases: list[float], horizon: int) -> None:
    pct_start = data.draw(st.floats(0, 1))
    assume(pct_start * horizon != 1)  # torch divides by zero
    options = {
        "max_lr": data.draw(options_of_each(len(bases))),
        "pct_start": pct_start,
        "anneal_strategy": data.draw(st.sampled_from(["cos", "linear"])),
        "cycle_momentum": data.draw(st.booleans()),
        "base_momentum": data.draw(MOMENTA),
        "max_momentum": data.draw(MOMENTA),
        "div_factor": data.draw(st.floats(1, 100)),
        "final_div_factor": data.draw(st.floats(1, 1e5)),
    }

    def make(optimizer: torch.optim.Optimizer) -> lr_scheduler.LRScheduler:
        return lr_scheduler.OneCycleLR(optimizer, total_steps=horizon, **options)

    assert_like_torchs({"class": "one_cycle", **options}, make, bases, horizon, steps=horizon)


@pytest.mark.parametrize(("pct_start", "horizon"), [(0.1, 10), (1.0, 1), (0.3, 1)])
def test_one_cycle_where_its_rise_takes_no_step(pct_start: float, horizon: int) -> None:
    schedule = create_schedule({"class": "one_cycle", "max_lr": 1.0, "pct_start": pct_start, "cycle_momentum": False})
    schedule.prepare(optimizer_of([0.1]).param_groups)
    highest = 1.0 if pct_start * horizon == 1 else 1 / 25 / 1e4
    assert schedule.rates([0.1], 0, horizon) == [highest]


def test_one_cycle_stays_at_its_end() -> None:
    schedule = create_schedule({"class": "one_cycle", "max_lr": 1.0})
    schedule.prepare(optimizer_of([0.1]).param_groups)
    assert schedule.rates([0.1], 10, 10) == schedule.rates([0.1], 9, 10) == [1 / 25 / 1e4]
    assert schedule.momentums(10, 10) == [0.95]


@given(
    st.data(),
    st.sampled_from(["rel", "abs"]),
    st.sampled_from(["min", "max"]),
    st.integers(0, 3),
    st.integers(0, 3),
    st.floats(0, 0.3),
    st.floats(0.1, 0.9),
    st.floats(0, 0.05),
    RATES,
)
def test_plateau(
    data: st.DataObject,
    threshold_mode: str,
    mode: Any,
    patience: int,
    cooldown: int,
    threshold: float,
    factor: float,
    min_lr: float,
    bases: list[float],
) -> None:
    # Negative numbers with a relative threshold are a test of their own: torch goes the wrong way with them.
    values = st.floats(0 if threshold_mode == "rel" else -2, 2)
    options: dict[str, Any] = {
        "factor": factor,
        "patience": patience,
        "threshold": threshold,
        "threshold_mode": threshold_mode,
        "cooldown": cooldown,
        "eps": data.draw(st.sampled_from([0.0, 1e-8, 1e-2])),
    }
    ours = Plateau(**options)
    ours.mode, ours.min_lr = mode, min_lr
    optimizer = optimizer_of(bases)
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, mode, min_lr=min_lr, **options)
    for value in data.draw(st.lists(values, min_size=1, max_size=25)):
        ours.feed(value)
        ours.take_effect()
        scheduler.step(value)
        # The same operations in the same order, so equal to the last bit.
        assert ours.rates(bases, 0, 0) == [group["lr"] for group in optimizer.param_groups]


@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_relative_threshold_means_the_size_of_a_negative_number(mode: str) -> None:
    plateau = Plateau(factor=0.5, patience=0, threshold=0.1)
    plateau.mode = mode
    better = -1 if mode == "min" else 1
    for value, reductions in [(-10, 0), (-10 + better * 0.5, 1), (-10 + better * 1.1, 1)]:
        plateau.feed(value)
        assert plateau.state_dict()["reductions"] == reductions


@pytest.mark.parametrize(("eps", "expected"), [(0.25, [0.5, 0.5]), (0.24, [0.5, 0.25])])
def test_a_reduction_of_no_more_than_eps_is_not_made(eps: float, expected: list[float]) -> None:
    plateau = Plateau(factor=0.5, patience=0, eps=eps)
    seen = []
    plateau.feed(1)
    for _ in range(2):
        plateau.feed(2)
        plateau.take_effect()
        seen += plateau.rates([1.0], 0, 0)
    assert seen == expected


def test_plateau_looks_at_every_nth_value() -> None:
    plateau = Plateau(factor=0.5, patience=0)
    plateau.frequency = 3
    for value in [9, 9, 5, 9, 9, 4, 9, 9, 3]:
        plateau.feed(value)
    assert plateau.state_dict()["reductions"] == 0
    for value in [1, 1, 3]:
        plateau.feed(value)
    assert plateau.state_dict()["reductions"] == 1


# --------------------------------------------------------------------------------------------- one's own and torch's


def ramp(base: float, x: int, horizon: int, power: float = 1.0) -> float:
    return base * (1 - x / horizon) ** power


def fade(base: float, x: int) -> float:
    return base / (1 + x)


def perhaps(base: float, x: int, horizon: int | None = None) -> float:
    return base if horizon is None else base / horizon


class SquareRoot(AbstractSchedule):
    needs_length = False

    def __init__(self, scale: int = 1) -> None:
        self.scale = scale

    def rate(self, base: float, x: int, horizon: int) -> float:
        return base / math.sqrt(1 + x / self.scale)


@pytest.mark.parametrize(
    ("schedule", "needs_length", "wanted"),
    [
        (ramp, True, 0.5),
        ({"class": ramp, "power": 2}, True, 0.25),
        (fade, False, 0.25),
        (perhaps, False, 1 / 6),
        (lambda base, x, horizon: base, True, 1.0),
        (SquareRoot(), False, 0.5),
        (SquareRoot, False, 0.5),
        ({"class": SquareRoot, "scale": 3}, False, 0.5**0.5),
    ],
)
def test_schedules_of_ones_own(schedule: Any, needs_length: bool, wanted: float) -> None:
    made = create_schedule(schedule)
    made.prepare(optimizer_of([1.0, 2.0]).param_groups)
    assert made.needs_length == needs_length
    # What is wanted is a rounded product.
    assert made.rates([1.0, 2.0], 3, 6) == pytest.approx([wanted, 2 * wanted], rel=1e-15)


def test_a_function_whose_horizon_has_a_default_keeps_it_without_a_length() -> None:
    assert create_schedule(perhaps).rates([0.3], 3, 0) == [0.3]


class Halves(lr_scheduler.LRScheduler):
    """A scheduler of one's own that goes from rate to rate."""

    def get_lr(self) -> list[float]:
        return [group["lr"] * (0.5 if self.last_epoch else 1) for group in self.optimizer.param_groups]


@pytest.mark.parametrize(
    ("schedule", "make"),
    [
        (
            {"class": "torch.optim.lr_scheduler.PolynomialLR", "total_iters": 40, "power": 2.0},
            lambda optimizer: lr_scheduler.PolynomialLR(optimizer, 40, 2.0),
        ),
        ({"class": Halves}, Halves),
        (
            {"class": lr_scheduler.CosineAnnealingWarmRestarts, "T_0": 7},
            lambda optimizer: lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 7),
        ),
        (
            {"class": lr_scheduler.CyclicLR, "base_lr": 0.1, "max_lr": 0.2, "step_size_up": 5},
            lambda optimizer: lr_scheduler.CyclicLR(optimizer, 0.1, 0.2, 5),
        ),
    ],
)
def test_schedulers_of_torchs(schedule: Any, make: MakeScheduler) -> None:
    assert_like_torchs(schedule, make, [0.1, 0.7])
    made = create_schedule(schedule)
    made.prepare(optimizer_of([0.1, 0.7]).param_groups)
    forward = [made.rates([], x, 0) for x in range(10)]
    assert forward[0] != forward[9]
    assert [made.rates([], x, 0) for x in reversed(range(10))] == forward[::-1]


def test_a_scheduler_of_torchs_does_not_touch_the_optimizer() -> None:
    optimizer = optimizer_of([0.3])
    made = create_schedule({"class": lr_scheduler.StepLR, "step_size": 1})
    before = dict(optimizer.param_groups[0])
    made.prepare(optimizer.param_groups)
    made.rates([0.3], 5, 0)
    assert optimizer.param_groups == [before]


def test_a_scheduler_of_torchs_that_ends_early_says_so() -> None:
    made = create_schedule({"class": lr_scheduler.OneCycleLR, "max_lr": 1.0, "total_steps": 5})
    made.prepare(optimizer_of([0.3]).param_groups)
    with pytest.raises(ConfigError, match="schedule OneCycleLR: Tried to step 6 times"):
        made.rates([], 9, 0)


# -------------------------------------------------------------------------------------------------- what is refused

REFUSED: list[tuple[Any, tuple[str, ...], str]] = [
    ("cosine", (), "unknown schedule 'cosine'; did you mean 'cosine_annealing'?"),
    ({"class": "stepp"}, ("class",), "unknown schedule 'stepp'; did you mean 'step'?"),
    ({"step_size": 3}, (), "the key 'class' is missing"),
    ("my_module.f", (), "give the class or function itself"),
    (7, (), "schedule 7: it is neither"),
    (torch.optim.SGD, (), "schedule SGD: it is neither"),
    (lr_scheduler.ReduceLROnPlateau, (), "'plateau' is there"),
    ("torch.optim.lr_scheduler.ReduceLROnPlateau", (), "'plateau' is there"),
    (lr_scheduler.SequentialLR, (), "takes schedulers that exist already"),
    ({"class": "step", "stepsize": 3}, ("stepsize",), "unknown argument 'stepsize'; did you mean 'step_size'?"),
    ({"class": "plateau", "mode": "max"}, ("mode",), "it stands beside 'schedule', not in it"),
    ({"class": "linear", "power": 3}, ("power",), "unknown argument 'power'; it has none"),
    ({"class": "exponential", "gamma": -1}, ("gamma",), "gamma must be a number, 0 or more, not -1"),
    ({"class": "exponential", "gamma": "a"}, ("gamma",), "gamma must be a number"),
    ({"class": "step", "step_size": 0}, ("step_size",), "step_size must be a whole number, 1 or more, not 0"),
    ({"class": "step", "step_size": 1.5}, ("step_size",), "whole number"),
    ({"class": "multi_step", "milestones": 5}, ("milestones",), "milestones must be a list"),
    ({"class": "multi_step", "milestones": [1, -1]}, ("milestones",), "whole number, 0 or more, not -1"),
    ({"class": "cyclic", "mode": "triangle"}, ("mode",), "did you mean 'triangular'?"),
    ({"class": "cyclic", "gamma": 0.5}, ("gamma",), "only used with mode: exp_range"),
    ({"class": "cyclic", "scale_mode": "iterations"}, ("scale_mode",), "scale_mode says what scale_fn takes"),
    ({"class": "cyclic", "scale_fn": "f"}, ("scale_fn",), "scale_fn must be a function"),
    ({"class": "cyclic", "step_size_up": 0}, ("step_size_up",), "more than 0"),
    ({"class": "cyclic", "base_lr": -1}, ("base_lr",), "base_lr must be a number"),
    ({"class": "cyclic", "max_lr": [1, 2, 3]}, ("max_lr",), "max_lr has 3 values, but the optimizer has 2"),
    ({"class": "cyclic", "max_lr": [1, -2]}, ("max_lr",), "0 or more, not -2"),
    ({"class": "cyclic", "max_momentum": 1.5}, ("max_momentum",), "0 to 1"),
    ({"class": "one_cycle", "pct_start": 1.5}, ("pct_start",), "pct_start must be a number, 0 to 1, not 1.5"),
    ({"class": "one_cycle", "anneal_strategy": "cosine"}, ("anneal_strategy",), "did you mean 'cos'?"),
    ({"class": "one_cycle", "div_factor": 0}, ("div_factor",), "more than 0"),
    ({"class": "plateau", "factor": 1}, ("factor",), "factor must be less than 1"),
    ({"class": "plateau", "patience": -1}, ("patience",), "0 or more"),
    ({"class": "plateau", "threshold_mode": "relative"}, ("threshold_mode",), "known are: abs, rel"),
    ({"class": lr_scheduler.StepLR}, (), "schedule StepLR: .*'step_size'"),
    ({"class": lr_scheduler.StepLR, "step_size": 0}, (), "schedule StepLR: .*modulo by zero"),
    ({"class": lr_scheduler.StepLR, "stepsize": 3}, ("stepsize",), "did you mean 'step_size'?"),
    ({"class": lr_scheduler.StepLR, "step_size": 3, "last_epoch": 2}, ("last_epoch",), "follows from the step"),
    ({"class": ramp, "pover": 3}, ("pover",), "schedule ramp: unknown argument 'pover'; did you mean 'power'?"),
    (lambda: 1, (), "too many positional arguments; a schedule is called as f"),
    (lambda a, b, c, d: 1, (), "missing a required argument: 'd'"),
    ({"class": SquareRoot, "scales": 3}, ("scales",), "did you mean 'scale'?"),
]


@pytest.mark.parametrize(("schedule", "path", "message"), REFUSED)
def test_what_is_no_schedule_is_refused(schedule: Any, path: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("?", r"\?").replace("(", r"\(")) as caught:
        create_schedule(schedule).prepare(optimizer_of([0.1, 0.2]).param_groups)
    assert caught.value.path == path


@pytest.mark.parametrize("name", ["cyclic", "one_cycle"])
def test_momentum_is_moved_only_where_there_is_one(name: str) -> None:
    groups = optimizer_of([0.1], torch.optim.Adagrad).param_groups
    with pytest.raises(ConfigError, match="this one has neither: set cycle_momentum to false") as caught:
        create_schedule(name).prepare(groups)
    assert caught.value.path == ("cycle_momentum",)
    create_schedule({"class": name, "cycle_momentum": False}).prepare(groups)


def test_every_schedule_has_emmentals_defaults() -> None:
    defaults: Mapping[str, Mapping[str, Any]] = {
        "none": {},
        "linear": {},
        "exponential": {"gamma": 0.9},
        "plateau": {
            "factor": 0.1,
            "patience": 10,
            "threshold": 1e-4,
            "threshold_mode": "rel",
            "cooldown": 0,
            "eps": 1e-8,
        },
        "step": {"step_size": 1, "gamma": 0.1},
        "multi_step": {"milestones": (1000,), "gamma": 0.1},
        "cyclic": {
            "base_lr": 0.001,
            "max_lr": 0.1,
            "step_size_up": 2000,
            "step_size_down": None,
            "mode": "triangular",
            "gamma": 1.0,
            "scale_fn": None,
            "scale_mode": "cycle",
            "cycle_momentum": True,
            "base_momentum": 0.8,
            "max_momentum": 0.9,
        },
        "one_cycle": {
            "max_lr": 0.1,
            "pct_start": 0.3,
            "anneal_strategy": "cos",
            "cycle_momentum": True,
            "base_momentum": 0.85,
            "max_momentum": 0.95,
            "div_factor": 25.0,
            "final_div_factor": 1e4,
        },
        "cosine_annealing": {},
    }
    found = {
        name: {key: p.default for key, p in inspect.signature(kind).parameters.items()}
        for name, kind in SCHEDULES.items()
    }
    assert found == defaults
