import math

import pytest
import torch
from torch import nn

from emloop_mtl.errors import ConfigError
from emloop_mtl.optim.learning_rate import LearningRate


def make(*rates: float) -> tuple[LearningRate, torch.optim.Optimizer]:
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates]
    optimizer = torch.optim.SGD(groups)
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
    assert rates(learning_rate, 6) == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.4])


@pytest.mark.parametrize(
    ("length", "expected"),
    [({"percentage": 0.25}, 5), ({"percentage": 0.21}, 5), ({"passes": 0.5}, 4), ({"steps": 3}, 3)],
)
def test_warm_up_lengths(length: dict[str, float], expected: int) -> None:
    learning_rate, _ = make(1.0)
    learning_rate.warm_up(**length)  # type: ignore[arg-type]
    learning_rate.set_length(total_steps=20, pass_steps=8)
    assert rates(learning_rate, 20).index(1.0) == expected


def test_linear_falls_to_zero_at_the_end_of_the_run() -> None:
    learning_rate, _ = make(1.0)
    learning_rate.follow("linear")
    learning_rate.set_length(5, None)
    assert rates(learning_rate, 6) == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2, 0.0])


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
    assert rates(learning_rate, 7) == pytest.approx([0, 0.5, 1.0, 0.75, 0.5, 0.3, 0.3])


def test_unit_pass_changes_once_per_pass() -> None:
    learning_rate, _ = make(1.0)
    learning_rate.follow("cosine_annealing", unit="pass")
    learning_rate.set_length(6, pass_steps=3)
    half = (1 + math.cos(math.pi / 2)) / 2
    assert rates(learning_rate, 6) == pytest.approx([1, 1, 1, half, half, half])


def test_every_group_follows_from_its_own_base() -> None:
    learning_rate, optimizer = make(1.0, 0.1)
    learning_rate.follow("linear", min_lr=0.05)
    learning_rate.set_length(10, None)
    learning_rate.apply(8)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.2, 0.05])


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
        ({}, "exactly one of steps, percentage, passes"),
        ({"steps": 1, "passes": 1}, "exactly one"),
        ({"percentage": 1.5}, "percentage must be 0 to 1, not 1.5"),
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
        ({"schedule": "linear", "frequency": 0}, "frequency must be 1 or more"),
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


def test_two_schedules_are_one_too_many() -> None:
    learning_rate, _ = make(1.0)
    learning_rate.follow("linear")
    with pytest.raises(ConfigError, match="set twice"):
        learning_rate.follow("linear")
