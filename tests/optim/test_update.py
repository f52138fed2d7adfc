import copy
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

from emloop_mtl.errors import ConfigError
from emloop_mtl.optim.update import Update

SGD: Mapping[str, Any] = {"class": "sgd", "lr": 0.5, "momentum": 0.9}


def make(weight: nn.Parameter, **options: Any) -> Update:
    return Update({"weight": weight}, options.pop("optimizer", SGD), **options)


def train(update: Update, weight: nn.Parameter, targets: list[float]) -> list[float]:
    seen = []
    for target in targets:

        def loss(target: float = target) -> torch.Tensor:
            return ((weight - target) ** 2).sum()

        update.backward(loss(), loss)
        update.end_step()
        seen.append(float(weight.detach()))
    return seen


def test_it_equals_a_loop_written_by_hand() -> None:
    weight, twin = nn.Parameter(torch.tensor([1.0])), nn.Parameter(torch.tensor([1.0]))
    optimizer = torch.optim.SGD([twin], lr=0.5, momentum=0.9)
    expected = []
    for target in (2.0, -1.0, 0.5):
        ((twin - target) ** 2).sum().backward()
        nn.utils.clip_grad_norm_([twin], 1.5)
        optimizer.step()
        optimizer.zero_grad()
        expected.append(float(twin.detach()))
    assert train(make(weight, clip_norm=1.5), weight, [2.0, -1.0, 0.5]) == expected


@pytest.mark.parametrize(("reduction", "factor"), [("mean", 0.5), ("sum", 1.0)])
def test_a_window_is_the_mean_or_the_sum_of_its_steps(reduction: str, factor: float) -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    update = make(weight, optimizer={"class": "sgd", "lr": 0.1}, accumulate=2, accumulate_reduction=reduction)
    seen = train(update, weight, [2.0, 5.0])
    gradient = 2 * (1.0 - 2.0) + 2 * (1.0 - 5.0)
    assert seen[0] == 1.0
    assert seen[1] == pytest.approx(1.0 - 0.1 * gradient * factor)  # float32


def test_the_last_step_of_the_run_closes_the_window_by_its_own_length() -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    update = make(weight, optimizer={"class": "sgd", "lr": 0.1}, accumulate=3)
    update.set_length(4, None)
    seen = train(update, weight, [1.0, 1.0, 1.0, 3.0])
    assert seen[:3] == [1.0, 1.0, 1.0]
    assert seen[3] == pytest.approx(1.0 + 0.1 * 2 * 2.0)  # float32


@pytest.mark.parametrize(("planned", "length"), [(5, 6), (6, 5)])
def test_a_window_that_becomes_longer_or_shorter_is_divided_by_what_it_has(planned: int, length: int) -> None:
    """A run whose last window began for one length is continued to another."""
    targets = [1.0, 1.0, 1.0, 3.0, 4.0, 5.0]
    settings = {"class": "sgd", "lr": 0.1}
    weight = nn.Parameter(torch.tensor([1.0]))
    first = make(weight, optimizer=settings, accumulate=3)
    first.set_length(planned, None)
    train(first, weight, targets[:4])
    twin = nn.Parameter(weight.detach().clone())
    second = make(twin, optimizer=settings, accumulate=3)
    second.load_state_dict(first.state_dict())
    second.set_length(length, None)
    window = targets[3:length]
    mean = sum(2 * (1.0 - target) for target in window) / len(window)
    # float32: what was divided by the planned length is put right by a multiplication
    assert train(second, twin, targets[4:length])[-1] == pytest.approx(1.0 - 0.1 * mean, rel=1e-6)


@pytest.mark.parametrize("stop", [1, 2, 3])
@pytest.mark.parametrize(("reduction", "after"), [("mean", "sum"), ("sum", "mean"), ("mean", "mean")])
@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_an_open_window_is_closed_by_the_settings_that_a_run_is_continued_with(
    stop: int, reduction: str, after: str, length: int
) -> None:
    targets = [1.0, 1.5, 3.0, 4.0, 5.0, 7.0, 9.0]
    settings = {"class": "sgd", "lr": 0.1}
    weight = nn.Parameter(torch.tensor([1.0]))
    first = make(weight, optimizer=settings, accumulate=4, accumulate_reduction=reduction)
    train(first, weight, targets[:stop])
    twin = nn.Parameter(weight.detach().clone())
    second = make(twin, optimizer=settings, accumulate=length, accumulate_reduction=after)
    second.load_state_dict(first.state_dict())
    value, window, expected = 1.0, [2 * (1.0 - target) for target in targets[:stop]], []
    for target in targets[stop:]:
        window.append(2 * (value - target))
        if len(window) >= length:
            value -= 0.1 * sum(window) / (len(window) if after == "mean" else 1)
            window = []
        expected.append(value)
    # float32: what was divided by another length is put right by a multiplication
    assert train(second, twin, targets[stop:]) == pytest.approx(expected, rel=1e-5)


def test_an_open_window_that_does_not_tell_what_it_was_divided_by_was_divided_by_nothing() -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    update = make(weight, optimizer={"class": "sgd", "lr": 0.1}, accumulate=2)
    state = {**update.state_dict(), "step": 1, "open": 1, "gradients": {"weight": torch.tensor([3.0])}}
    del state["planned"]
    update.load_state_dict(state)
    assert train(update, weight, [-1.0])[-1] == pytest.approx(1.0 - 0.1 * (3.0 + 4.0) / 2)  # float32


@pytest.mark.parametrize("stop", range(6))
@pytest.mark.parametrize("optimizer", [SGD, {"class": "adamw", "lr": 0.1}, {"class": "asgd"}, {"class": "nadam"}])
def test_resuming_after_any_step_changes_nothing(stop: int, optimizer: Mapping[str, Any]) -> None:
    targets = [2.0, -1.0, 0.5, 4.0, 1.0, 3.0]
    weight = nn.Parameter(torch.tensor([1.0]))
    expected = train(make(weight, optimizer=optimizer, accumulate=2), weight, targets)

    weight = nn.Parameter(torch.tensor([1.0]))
    first = make(weight, optimizer=optimizer, accumulate=2)
    train(first, weight, targets[:stop])
    twin = nn.Parameter(weight.detach().clone())
    second = make(twin, optimizer=optimizer, accumulate=2)
    second.load_state_dict(first.state_dict())
    assert train(second, twin, targets[stop:]) == expected[stop:]


def test_a_step_without_losses_leaves_the_parameters_alone() -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    update = make(weight)
    update.backward(torch.zeros(()), lambda: torch.zeros(()))
    update.end_step()
    assert float(weight.detach()) == 1.0
    assert update.step == 1


def test_a_group_that_is_added_in_the_run_is_trained_like_the_others() -> None:
    weight, late = nn.Parameter(torch.tensor([1.0])), nn.Parameter(torch.tensor([1.0]))
    update = make(weight, optimizer={"class": "sgd", "lr": 0.5}, clip_norm=2.0)
    train(update, weight, [1.0])
    update.optimizer.add_param_group({"params": [("late", late)]})
    for _ in range(2):
        update.backward((3 * late).sum() + (4 * weight).sum(), lambda: torch.zeros(()))
        update.end_step()
        assert late.grad is None
    # Two gradients of 3 and 4, clipped from a norm of 5 to one of 2; float32
    assert [late.item(), weight.item()] == pytest.approx([1 - 2 * 0.5 * 3 * 0.4, 1 - 2 * 0.5 * 4 * 0.4], rel=1e-6)


def test_fp16_takes_a_step_without_losses() -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    update = make(weight, optimizer={"class": "sgd", "lr": 0.5}, scaler=scaler)
    for loss in (torch.zeros(()), weight.sum(), torch.zeros(())):
        update.backward(loss, lambda: torch.zeros(()))
        update.end_step()
    assert weight.item() == 0.5
    assert update.step == 3


def test_lbfgs_gets_the_closure_it_needs() -> None:
    weight = nn.Parameter(torch.tensor([5.0]))
    seen = train(make(weight, optimizer={"class": "lbfgs", "lr": 1.0, "max_iter": 10}), weight, [2.0])
    # A quadratic is solved by the first quasi-Newton steps, up to float32 rounding.
    assert seen[0] == pytest.approx(2.0, abs=1e-4)


def test_fp16_scales_the_loss_and_unscales_the_gradients() -> None:
    weight, twin = nn.Parameter(torch.tensor([1.0])), nn.Parameter(torch.tensor([1.0]))
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    expected = train(make(twin, clip_norm=1.0), twin, [2.0, -1.0])
    # The scale is a power of two, so scaling and unscaling are exact.
    assert train(make(weight, clip_norm=1.0, scaler=scaler), weight, [2.0, -1.0]) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip_norm": 0.0}, "update.clip_norm must be a number greater than 0"),
        ({"clip_norm": "1"}, "update.clip_norm must be a number greater than 0, not '1'"),
        ({"clip_norm": True}, "update.clip_norm must be a number greater than 0, not True"),
        ({"accumulate": 1.5}, "update.accumulate must be a whole number, 1 or more, not 1.5"),
        ({"accumulate": True}, "update.accumulate must be a whole number, 1 or more, not True"),
        ({"accumulate": 0}, "update.accumulate must be a whole number, 1 or more"),
        ({"accumulate_reduction": "max"}, "one of mean, sum"),
        ({"optimizer": {"class": "lbfgs"}, "accumulate": 2}, "LBFGS .* cannot work with update.accumulate above 1"),
        ({"optimizer": {"class": "nope"}}, "unknown class 'nope'"),
    ],
)
def test_wrong_settings_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(nn.Parameter(torch.zeros(1)), **options)


def test_before_the_first_update_the_rate_is_that_of_the_first_step() -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    update = make(weight, accumulate=2)
    update.learning_rate.warm_up(steps=4)
    update.set_length(4, None)
    seen = []
    for target in range(4):
        train(update, weight, [target])
        seen.append(update.learning_rate.current)
    assert seen == [[0.0], [0.125], [0.125], [0.375]]


def test_an_optimizer_that_forgets_gradients_in_its_own_way_does_so() -> None:
    class Keeps(torch.optim.SGD):
        forgotten = 0

        def zero_grad(self, set_to_none: bool = True) -> None:
            self.forgotten += 1
            super().zero_grad(set_to_none=set_to_none)

    weight = nn.Parameter(torch.ones(2))
    update = Update({"weight": weight}, {"class": Keeps, "lr": 0.1})
    for _ in range(3):
        update.backward(weight.sum(), lambda: weight.sum())
        update.end_step()
        assert weight.grad is None
    assert isinstance(update.optimizer, Keeps)
    assert update.optimizer.forgotten == 3


def test_gradients_of_before_a_restart_are_unscaled_though_nothing_is_scaled_after_it() -> None:
    """As where all that the last batch of a window would train is frozen."""
    weights = []
    for is_restarted in (False, True):
        weight = nn.Parameter(torch.ones(1))
        update = make(weight, accumulate=2, scaler=torch.amp.GradScaler("cpu", init_scale=8.0))
        train(update, weight, [3.0])
        if is_restarted:
            state = copy.deepcopy(update.state_dict())
            update = make(weight, accumulate=2, scaler=torch.amp.GradScaler("cpu", init_scale=8.0))
            update.load_state_dict(state)
        update.backward(torch.zeros(()), lambda: torch.zeros(()))
        update.end_step()
        weights.append(weight.detach().clone())
    assert not torch.equal(weights[0], torch.ones(1))
    assert torch.equal(weights[0], weights[1])
