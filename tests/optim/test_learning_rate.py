import logging
import math
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn

from emloop_mtl.errors import ConfigError
from emloop_mtl.optim.learning_rate import LearningRate
from emloop_mtl.optim.schedules.by_name import SCHEDULES, create_schedule

NEED_A_LENGTH = {"linear", "cosine_annealing", "one_cycle"}


def make(*rates: float, **options: Any) -> tuple[LearningRate, torch.optim.Optimizer]:
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates]
    optimizer = torch.optim.SGD(groups, **options)
    return LearningRate(optimizer), optimizer


def rates(learning_rate: LearningRate, steps: int) -> list[float]:
    seen = []
    for step in range(steps):
        learning_rate.apply(step)
        seen.append(learning_rate.current[0])
    return seen


def test_it_stays_at_the_base_rate_by_itself() -> None:
    learning_rate, _ = make(0.1)
    learning_rate.set_length(None, None)
    assert rates(learning_rate, 3) == [0.1, 0.1, 0.1]


def test_warm_up_rises_linearly_from_zero() -> None:
    learning_rate, _ = make(0.4)
    learning_rate.warm_up(steps=4)
    learning_rate.set_length(None, None)
    # 3/4 of 0.4 is rounded.
    assert rates(learning_rate, 6) == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.4], rel=1e-15)


@pytest.mark.parametrize(
    ("length", "expected"),
    [({"percentage": 0.25}, 5), ({"percentage": 0.21}, 5), ({"passes": 0.5}, 4), ({"steps": 3}, 3)],
)
def test_warm_up_lengths(length: dict[str, float], expected: int) -> None:
    learning_rate, _ = make(1.0)
    learning_rate.warm_up(**length)  # type: ignore[arg-type]
    learning_rate.set_length(total_steps=20, pass_steps=8)
    assert rates(learning_rate, 20).index(1.0) == expected


@pytest.mark.parametrize(("length", "expected"), [({"percentage": 0.07}, 7), ({"passes": 0.29}, 29)])
def test_a_length_is_not_a_step_off_because_of_a_rounding(length: dict[str, float], expected: int) -> None:
    learning_rate, _ = make(1.0)
    learning_rate.warm_up(**length)  # type: ignore[arg-type]
    learning_rate.set_length(total_steps=100, pass_steps=100)
    assert rates(learning_rate, 100).index(1.0) == expected


def test_linear_falls_to_zero_at_the_end_of_the_run() -> None:
    learning_rate, _ = make(1.0)
    learning_rate.follow("linear")
    learning_rate.set_length(5, None)
    assert rates(learning_rate, 6) == [1.0, 0.8, 0.6, 0.4, 0.2, 0.0]


def test_cosine_equals_torchs_own_without_warm_up() -> None:
    learning_rate, _ = make(0.3)
    learning_rate.follow("cosine_annealing", min_lr=0.01)
    learning_rate.set_length(20, None)
    reference = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(reference, 20, eta_min=0.01)
    for rate in rates(learning_rate, 20):
        # torch chains the values from step to step, so rounding errors of 20 products add up.
        assert rate == pytest.approx(reference.param_groups[0]["lr"], rel=1e-12)
        reference.step()
        scheduler.step()


def test_schedule_begins_after_the_warm_up_and_ends_with_the_run() -> None:
    learning_rate, _ = make(1.0)
    learning_rate.warm_up(steps=2)
    learning_rate.follow("linear", min_lr=0.3)
    learning_rate.set_length(6, None)
    assert rates(learning_rate, 7) == [0, 0.5, 1.0, 0.75, 0.5, 0.3, 0.3]


def test_unit_pass_changes_once_per_pass() -> None:
    learning_rate, _ = make(1.0)
    learning_rate.follow("cosine_annealing", unit="pass")
    learning_rate.set_length(6, pass_steps=3)
    half = (1 + math.cos(math.pi / 2)) / 2
    assert rates(learning_rate, 6) == [1, 1, 1, half, half, half]


def test_every_group_follows_from_its_own_base() -> None:
    learning_rate, optimizer = make(1.0, 0.1)
    learning_rate.follow("linear", min_lr=0.05)
    learning_rate.set_length(10, None)
    learning_rate.apply(8)
    assert [group["lr"] for group in optimizer.param_groups] == [0.2, 0.05]


def test_a_rate_depends_on_the_step_alone() -> None:
    first, _ = make(1.0)
    second, _ = make(1.0)
    for learning_rate in (first, second):
        learning_rate.warm_up(steps=3)
        learning_rate.follow("cosine_annealing")
        learning_rate.set_length(10, None)
    rates(first, 8)
    second.apply(7)
    assert first.current == second.current


def test_it_still_acts_on_an_optimizer_that_was_restored() -> None:
    learning_rate, optimizer = make(1.0)
    learning_rate.follow("linear")
    learning_rate.set_length(4, None)
    optimizer.load_state_dict(optimizer.state_dict())
    learning_rate.apply(2)
    assert optimizer.param_groups[0]["lr"] == learning_rate.current[0] == 0.5


@pytest.mark.parametrize(
    ("warm_up", "message"),
    [
        ({"steps": 3.7}, "steps must be a whole number, not 3.7"),
        ({}, "exactly one of steps, percentage, passes"),
        ({"steps": 1, "passes": 1}, "exactly one"),
        ({"percentage": 1.5}, "percentage must be 0 to 1, not 1.5"),
        ({"percentage": 10**400}, "the warm-up's length is no number that can be reckoned with"),
        ({"steps": -1}, "steps must be 0 or more, not -1"),
    ],
)
def test_wrong_warm_ups_are_refused(warm_up: dict[str, float], message: str) -> None:
    learning_rate, _ = make(1.0)
    with pytest.raises(ConfigError, match=message):
        learning_rate.warm_up(**warm_up)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "cosine"}, "unknown schedule 'cosine'; did you mean 'cosine_annealing'"),
        ({"schedule": "linear", "unit": "steps"}, "did you mean 'step'"),
        ({"schedule": "linear", "frequency": 0}, "frequency must be a whole number, 1 or more, not 0"),
        ({"schedule": "linear", "min_lr": -1.0}, "min_lr must be 0 or more"),
    ],
)
def test_wrong_schedules_are_refused(options: dict[str, object], message: str) -> None:
    learning_rate, _ = make(1.0)
    with pytest.raises(ConfigError, match=message):
        learning_rate.follow(**options)  # type: ignore[arg-type]


def test_a_needed_length_that_is_missing_names_what_gives_it() -> None:
    learning_rate, _ = make(1.0)
    learning_rate.follow("linear", path=("hooks", 1, "LRSchedule"))
    with pytest.raises(ConfigError, match="needs the length of the run: add StopAfter") as caught:
        learning_rate.set_length(None, None, "StopAfter")
    assert caught.value.path == ("hooks", 1, "LRSchedule")


@pytest.mark.parametrize("name", SCHEDULES)
def test_one_schedule_may_serve_several_trainings(name: str) -> None:
    schedule = create_schedule({"class": name, **({"patience": 0} if name == "plateau" else {})})
    seen = []
    for min_lr in (0.5, 0.0, 0.0):
        learning_rate, _ = make(1.0, momentum=0.9)
        learning_rate.follow(schedule, min_lr)
        learning_rate.set_length(4, None)
        for step in range(4):
            learning_rate.feed(step, step)
        seen.append(rates(learning_rate, 4))
    assert seen[1] == seen[2]


def test_two_schedules_are_one_too_many() -> None:
    learning_rate, _ = make(1.0)
    learning_rate.follow("linear")
    with pytest.raises(ConfigError, match="set twice"):
        learning_rate.follow("linear")


@given(
    total=st.one_of(st.none(), st.integers(1, 60)),
    warm_up=st.integers(0, 40),
    frequency=st.integers(1, 7),
    pass_steps=st.integers(1, 9),
    unit=st.sampled_from(["step", "pass"]),
)
def test_due_steps_are_counted_from_the_warm_up_and_fall_on_multiples_of_the_period(
    total: int | None, warm_up: int, frequency: int, pass_steps: int, unit: str
) -> None:
    seen: list[tuple[int, int | None]] = []

    def note(base: float, x: int, horizon: int | None = None) -> float:
        seen.append((x, horizon))
        return base

    learning_rate, _ = make(1.0)
    learning_rate.warm_up(steps=warm_up)
    learning_rate.follow(note, unit=unit, frequency=frequency)
    learning_rate.set_length(total, pass_steps)
    seen.clear()
    period = frequency * (pass_steps if unit == "pass" else 1)
    wanted, due = [], 0
    for step in range(total or 80):
        learning_rate.apply(step)
        wanted.append(due)
        due += step >= warm_up and (step + 1) % period == 0
    assert [x for x, _ in seen] == wanted
    # The horizon is how many different values x takes from the warm-up to the end of the run.
    horizon = None if total is None else max(1, len({*wanted[warm_up:]}))
    assert {horizon for _, horizon in seen} == {horizon}


def test_changes_of_unit_pass_stay_on_the_borders_of_passes_after_a_warm_up() -> None:
    learning_rate, _ = make(1.0)
    learning_rate.warm_up(steps=5)
    learning_rate.follow({"class": "exponential", "gamma": 0.5}, unit="pass")
    learning_rate.set_length(16, pass_steps=4)
    assert rates(learning_rate, 16) == [0, 0.2, 0.4, 0.6, 0.8, 1, 1, 1, *[0.5] * 4, *[0.25] * 4]


@pytest.mark.parametrize("name", SCHEDULES)
def test_after_the_last_step_the_rate_stays(name: str) -> None:
    learning_rate, optimizer = make(1.0, momentum=0.9)
    learning_rate.follow(name)
    learning_rate.set_length(10, None)
    learning_rate.apply(10)
    last = dict(optimizer.param_groups[0])
    learning_rate.apply(25)
    assert optimizer.param_groups[0] == last


@pytest.mark.parametrize("name", SCHEDULES)
def test_who_needs_the_length_of_the_run(name: str) -> None:
    learning_rate, _ = make(1.0, momentum=0.9)
    learning_rate.follow(name)
    if name in NEED_A_LENGTH:
        with pytest.raises(ConfigError, match="needs the length of the run"):
            learning_rate.set_length(None, None)
        return
    learning_rate.set_length(None, None)
    endless = rates(learning_rate, 5000)
    learning_rate.set_length(6000, None)
    assert rates(learning_rate, 5000) == endless
    assert len(set(endless)) > 1 or name in ("none", "plateau")


def test_a_scheduler_of_torchs_that_ends_before_the_run_is_refused_before_the_first_step() -> None:
    learning_rate, _ = make(1.0)
    schedule = {"class": torch.optim.lr_scheduler.OneCycleLR, "max_lr": 1.0, "total_steps": 5, "cycle_momentum": False}
    learning_rate.follow(schedule, path=("hooks", 0, "LRSchedule"))
    learning_rate.set_length(5, None)
    with pytest.raises(ConfigError, match="total_steps is 5, but the run has 6 due steps.*; one_cycle takes") as caught:
        learning_rate.set_length(6, None)
    assert caught.value.path == ("hooks", 0, "LRSchedule", "schedule", "total_steps")


@pytest.mark.parametrize(
    ("warm_up", "frequency", "message"),
    [
        (6, 1, None),
        (7, 1, "the warm-up of 7 steps does not end within the run of 6"),
        (0, 5, None),
        (0, 6, "it would change after 6 steps, and the run has 6"),
        (4, 6, "it would change after 6 steps, and the run has 6"),
        (5, 6, None),
    ],
)
def test_a_rate_that_the_run_is_too_short_for_is_said(
    warm_up: int, frequency: int, message: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    learning_rate, _ = make(1.0)
    learning_rate.warm_up(steps=warm_up)
    learning_rate.follow("linear", frequency=frequency)
    for _ in range(2):  # once by the check, once by the run
        learning_rate.set_length(6, None)
    assert [message in record.getMessage() for record in caplog.records if message] == [True] * bool(message)
    assert len(caplog.records) == bool(message)


def test_a_warm_up_in_percent_needs_the_length_of_the_run_whatever_the_schedule() -> None:
    learning_rate, _ = make(1.0)
    learning_rate.warm_up(percentage=0.1)
    learning_rate.follow("step")
    with pytest.raises(ConfigError, match="a warm-up in percent needs the length of the run"):
        learning_rate.set_length(None, None)


def test_min_lr_holds_for_every_group_from_the_first_step_after_the_warm_up_on() -> None:
    learning_rate, optimizer = make(1.0, 0.01)
    learning_rate.warm_up(steps=2)
    learning_rate.follow({"class": "step", "gamma": 0.5}, min_lr=0.3)
    learning_rate.set_length(None, None)
    seen = []
    for step in range(6):
        learning_rate.apply(step)
        seen.append([group["lr"] for group in optimizer.param_groups])
    assert seen == [[0, 0], [0.5, 0.005], [1.0, 0.3], [0.5, 0.3], [0.3, 0.3], [0.3, 0.3]]


def test_groups_may_have_rates_and_momentums_of_their_own() -> None:
    learning_rate, optimizer = make(1.0, 1.0, momentum=0.9)
    learning_rate.follow(
        {
            "class": "cyclic",
            "base_lr": [0.1, 0.2],
            "max_lr": [0.3, 1.2],
            "step_size_up": 2,
            "base_momentum": [0.5, 0.6],
            "max_momentum": [0.7, 1.0],
        }
    )
    learning_rate.set_length(None, None)
    learning_rate.apply(1)
    assert [group["lr"] for group in optimizer.param_groups] == [0.2, 0.7]
    assert [group["momentum"] for group in optimizer.param_groups] == [0.6, 0.8]


def test_momentum_is_the_first_beta_of_adam() -> None:
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(1))], betas=(0.5, 0.99))
    learning_rate = LearningRate(optimizer)
    learning_rate.follow({"class": "one_cycle", "pct_start": 0.5, "anneal_strategy": "linear"})
    learning_rate.set_length(10, None)
    seen = []
    for step in range(10):
        learning_rate.apply(step)
        seen.append(optimizer.param_groups[0]["betas"])
    wanted = [0.95 - 0.1 * (x / 4 if x < 5 else (9 - x) / 5) for x in range(10)]
    # Products and quotients of such rates are rounded.
    assert [first for first, _ in seen] == pytest.approx(wanted, rel=1e-15)
    assert {second for _, second in seen} == {0.99}


def test_momentum_waits_for_the_end_of_the_warm_up() -> None:
    learning_rate, optimizer = make(1.0, momentum=0.3)
    learning_rate.warm_up(steps=3)
    learning_rate.follow({"class": "cyclic", "step_size_up": 2, "max_momentum": 0.9, "base_momentum": 0.5})
    learning_rate.set_length(None, None)
    seen = []
    for step in range(6):
        learning_rate.apply(step)
        seen.append(optimizer.param_groups[0]["momentum"])
    assert seen == [0.9, 0.9, 0.9, 0.9, 0.7, 0.5]


def test_a_rate_that_is_a_tensor_is_filled_in_place() -> None:
    rate = torch.tensor(0.5)
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=rate)
    rate = optimizer.param_groups[0]["lr"]
    learning_rate = LearningRate(optimizer)
    learning_rate.follow("linear")
    learning_rate.set_length(4, None)
    assert learning_rate.current == [0.5]
    learning_rate.apply(1)
    assert optimizer.param_groups[0]["lr"] is rate
    assert rate.item() == learning_rate.current[0] == 0.375


def test_a_rate_that_nothing_sets_is_left_alone() -> None:
    learning_rate, optimizer = make(1.0)
    learning_rate.set_length(4, None)
    optimizer.param_groups[0]["lr"] = 0.25
    learning_rate.apply(0)
    assert learning_rate.current == [0.25]


@pytest.mark.parametrize("returned", [None, -0.1, math.nan, "0.1", True, torch.tensor(1.0)])
def test_a_function_that_returns_no_rate_is_found_out_before_the_first_step(returned: Any) -> None:
    learning_rate, _ = make(1.0)
    learning_rate.follow(lambda base, x: returned, path=("hooks", 0, "LRSchedule"))
    with pytest.raises(ConfigError, match="must return a finite number, 0 or more, but its first rate is") as caught:
        learning_rate.set_length(None, None)
    assert caught.value.path == ("hooks", 0, "LRSchedule", "schedule")


# ---------------------------------------------------------------------------------------------------- the state reset


def resetting(schedule: Any, warm_up: int = 0, **options: Any) -> tuple[LearningRate, torch.optim.Optimizer]:
    learning_rate, optimizer = make(1.0, 0.1, momentum=0.9)
    if warm_up:
        learning_rate.warm_up(steps=warm_up)
    learning_rate.follow(schedule, reset_state=True, **options)
    learning_rate.set_length(None, None)
    return learning_rate, optimizer


def resets(learning_rate: LearningRate, optimizer: torch.optim.Optimizer, steps: range) -> list[int]:
    """The steps before whose update the state is emptied, but for the first."""
    found = []
    for step in steps:
        learning_rate.apply(step)
        if step > steps.start and not optimizer.state:
            found.append(step)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                optimizer.state[parameter]["momentum_buffer"] = torch.ones(1)
    return found


def test_the_state_is_emptied_whenever_the_rate_changes() -> None:
    assert resets(*resetting({"class": "step", "step_size": 3}), range(10)) == [3, 6, 9]
    assert resets(*resetting("none"), range(10)) == []
    assert resets(*resetting({"class": "multi_step", "milestones": [4]}, warm_up=2), range(10)) == [1, 2, 6]


def test_a_change_of_any_group_empties_the_state() -> None:
    learning_rate, optimizer = resetting({"class": "cyclic", "base_lr": 0.1, "max_lr": [0.1, 0.5], "step_size_up": 3})
    assert resets(learning_rate, optimizer, range(5)) == [1, 2, 3, 4]


def test_without_reset_state_the_state_is_kept() -> None:
    learning_rate, optimizer = make(1.0, momentum=0.9)
    learning_rate.follow("exponential")
    learning_rate.set_length(None, None)
    assert resets(learning_rate, optimizer, range(5)) == []


def test_to_resume_empties_nothing() -> None:
    learning_rate, optimizer = resetting({"class": "step", "step_size": 3})
    optimizer.state[optimizer.param_groups[0]["params"][0]]["momentum_buffer"] = torch.ones(1)
    learning_rate.begin(7)
    learning_rate.apply(8)
    assert optimizer.state
    learning_rate.apply(9)
    assert not optimizer.state


def test_an_optimizer_that_begins_with_a_state_gets_that_back() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.Adagrad([parameter], initial_accumulator_value=3.0)
    learning_rate = LearningRate(optimizer)
    learning_rate.follow({"class": "step", "step_size": 2}, reset_state=True)
    learning_rate.set_length(None, None)
    sums = []
    for step in range(5):
        learning_rate.apply(step)
        parameter.grad = torch.ones(1)
        optimizer.step()
        sums.append(optimizer.state[parameter]["sum"].item())
    assert sums == [4, 5, 4, 5, 4]


# --------------------------------------------------------------------------------------------------------- the plateau


def on_plateau(warm_up: int = 0, patience: int = 0, cooldown: int = 0, **options: Any) -> LearningRate:
    learning_rate, _ = make(1.0, 0.1)
    if warm_up:
        learning_rate.warm_up(steps=warm_up)
    schedule = {"class": "plateau", "patience": patience, "cooldown": cooldown, "factor": 0.5}
    learning_rate.follow(schedule, **options)
    learning_rate.set_length(None, None)
    return learning_rate


def test_a_reduction_takes_effect_at_the_next_update() -> None:
    learning_rate = on_plateau(min_lr=0.02)
    learning_rate.apply(0)
    for value in (1, 2):
        learning_rate.feed(value, 1)
    learning_rate.begin(0)
    assert learning_rate.current == [1, 0.1]
    learning_rate.apply(1)
    assert learning_rate.current == [0.5, 0.05]
    for _ in range(2):
        learning_rate.feed(3, 2)
    learning_rate.apply(2)
    assert learning_rate.current == [0.125, 0.02]


def test_numbers_count_from_the_first_step_after_the_warm_up_on() -> None:
    learning_rate = on_plateau(warm_up=4)
    for step, value in [(0, 1), (2, 2), (4, 3), (5, 4), (6, 3.5), (7, 5)]:
        learning_rate.feed(value, step)
    learning_rate.apply(7)
    assert learning_rate.current[0] == 0.5  # 4, better 3.5, then worse


def test_frequency_counts_the_numbers_of_the_run_and_not_of_the_zeroth_epoch() -> None:
    learning_rate = on_plateau(warm_up=4, frequency=2)
    for step, value in [(0, 0), (4, 1), (8, 2), (12, 1), (16, 3)]:  # looked at: after 8 and 16 steps
        learning_rate.feed(value, step)
        learning_rate.apply(step)
        assert learning_rate.current[0] == {0: 0, 16: 0.5}.get(step, 1)


def test_reductions_survive_a_warm_up_that_is_made_longer() -> None:
    learning_rate = on_plateau(warm_up=1)
    for value in (1, 2):
        learning_rate.feed(value, 2)
    longer = on_plateau(warm_up=8)
    longer.load_state_dict(learning_rate.state_dict())
    longer.apply(4)
    assert longer.current[0] == 0.5 * 4 / 8
    longer.apply(8)
    assert longer.current[0] == 0.5


def test_plateau_watches_for_more_where_more_is_better() -> None:
    learning_rate = on_plateau(mode="max")
    for value in (1, 2, 3):
        learning_rate.feed(value, 1)
    learning_rate.apply(1)
    assert learning_rate.current[0] == 1
    learning_rate.feed(1, 1)
    learning_rate.apply(2)
    assert learning_rate.current[0] == 0.5


@given(
    values=st.lists(st.floats(0, 2), max_size=30),
    cut=st.integers(0, 30),
    frequency=st.integers(1, 3),
    patience=st.integers(0, 3),
    cooldown=st.integers(0, 3),
)
@example(values=[1, 2, 2, 2, 2, 2], cut=2, frequency=1, patience=0, cooldown=2)  # cut right after a reduction
def test_plateau_goes_on_from_its_state(
    values: list[float], cut: int, frequency: int, patience: int, cooldown: int
) -> None:
    whole, first, second = (on_plateau(0, patience, cooldown, frequency=frequency) for _ in range(3))
    for step, value in enumerate(values):
        whole.feed(value, step + 1)
        whole.apply(step + 1)
    for step, value in enumerate(values[:cut]):
        first.feed(value, step + 1)
        first.apply(step + 1)
    second.load_state_dict(first.state_dict())
    for step, value in enumerate(values[cut:], cut):
        second.feed(value, step + 1)
        second.apply(step + 1)
    assert second.state_dict() == whole.state_dict()
    if values[cut:]:
        assert second.current == whole.current


def test_a_reduction_that_is_not_in_effect_yet_empties_the_state_after_resuming() -> None:
    def start() -> tuple[LearningRate, torch.optim.Optimizer]:
        return resetting({"class": "plateau", "patience": 0, "factor": 0.5})

    first, _ = start()
    first.apply(0)
    for value in (1, 2):
        first.feed(value, 1)
    second, optimizer = start()
    second.load_state_dict(first.state_dict())
    optimizer.state[optimizer.param_groups[0]["params"][0]]["momentum_buffer"] = torch.ones(1)
    second.begin(0)
    assert second.current[0] == 1
    assert optimizer.state
    second.apply(1)
    assert second.current[0] == 0.5
    assert not optimizer.state


def test_plateau_takes_no_unit() -> None:
    learning_rate, _ = make(1.0)
    with pytest.raises(ConfigError, match="plateau takes no unit: .* 'frequency: n' looks at every n-th") as caught:
        learning_rate.follow("plateau", unit="step")
    assert caught.value.path == ("unit",)


def test_another_schedule_than_that_of_the_checkpoint_is_said(caplog: pytest.LogCaptureFixture) -> None:
    plateau = on_plateau()
    other, _ = make(1.0)
    other.follow("step")
    with caplog.at_level(logging.WARNING):
        other.load_state_dict(plateau.state_dict())
        plateau.load_state_dict(other.state_dict())
    assert [record.message.split(":")[0] for record in caplog.records] == [
        "the learning rate follows another schedule now",
        "the schedule plateau begins anew",
    ]
