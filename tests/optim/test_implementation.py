"""Which implementation an optimizer runs, and that every one of them trains alike."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from emloop_mtl.optim.optimizers import create_optimizer, load_optimizer_state, optimizer_state
from emloop_mtl.optim.update import Update

FUSED = ["sgd", "adam", "adamw", "adagrad"]
FOREACH = ["rmsprop", "adadelta", "adamax", "nadam", "radam"]


class Own(nn.Module):
    """A module whose gradients nobody knows the kind of."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))


def chosen(settings: Any, network: nn.Module) -> tuple[Any, Any]:
    optimizer = create_optimizer(settings, network.named_parameters(), network)
    (choice,) = {(group.get("fused"), group.get("foreach")) for group in optimizer.param_groups}
    return choice


@pytest.mark.parametrize("name", [*FUSED, *FOREACH, "asgd", "rprop"])
def test_the_fastest_one_is_chosen(name: str) -> None:
    expected = (True, None) if name in FUSED else (None, True) if name in FOREACH else (None, None)
    assert chosen({"class": name, "lr": 0.1}, nn.Linear(3, 2)) == expected


def test_many_at_once_are_chosen_for_small_parameters_only() -> None:
    assert chosen({"class": "adamax"}, nn.Linear(100, 40)) == (None, True)  # 4000 and 40 numbers: 2020 in the mean
    assert chosen({"class": "adamax"}, nn.Linear(100, 41)) == (None, None)


@pytest.mark.parametrize(
    "options",
    [
        {"fused": False},
        {"foreach": False},
        {"fused": None},
        {"capturable": True},
        {"differentiable": True},
        {"lr": torch.tensor(0.1)},
        {"parameters": lambda network: [{"params": [*network.parameters()], "fused": False}]},
    ],
)
def test_what_the_settings_say_is_left_alone(options: Any) -> None:
    fused, foreach = chosen({"class": "adam", **options}, nn.Linear(3, 2))
    assert not fused
    assert not foreach


@pytest.mark.parametrize(
    "change",
    [
        lambda network: network.bfloat16(),
        lambda network: setattr(network, "weight", nn.Parameter(torch.ones(2, 3).t())),
        lambda network: setattr(network, "weight", nn.Parameter(torch.ones(2, 3, device="meta"))),
    ],
)
def test_parameters_that_the_kernels_were_not_made_for_exclude_them(change: Callable[[nn.Module], Any]) -> None:
    network = nn.Linear(3, 2)
    change(network)
    assert chosen({"class": "adam"}, network) == (None, None)


@pytest.mark.parametrize("network", [nn.Embedding(3, 2, sparse=True), Own()])
def test_gradients_that_may_be_sparse_exclude_them(network: nn.Module) -> None:
    assert chosen({"class": "sgd", "lr": 0.1}, network) == (None, None)
    assert chosen({"class": "adagrad"}, network) == (None, None)
    if isinstance(network, Own):  # adam takes none in either case
        assert chosen({"class": "adam"}, network) == (True, None)


def test_a_parameter_that_an_embedding_shares_may_get_a_sparse_gradient() -> None:
    """Where tasks take turns, a step may use the embedding alone."""
    words, head = nn.Embedding(6, 3, sparse=True), nn.Linear(3, 6, bias=False)
    head.weight = words.weight
    assert chosen({"class": "sgd", "lr": 0.1}, nn.ModuleList([words, head])) == (None, None)


def test_dampening_excludes_the_kernel_of_sgd() -> None:
    assert chosen({"class": "sgd", "lr": 0.1, "momentum": 0.9, "dampening": 0.1}, nn.Linear(3, 2)) == (None, None)


@pytest.mark.parametrize("setting", [{"dampening": 0.1}, {"lr": torch.tensor(0.1)}])
def test_what_excludes_a_kernel_does_so_in_any_group(setting: Any) -> None:
    def groups(network: nn.Module) -> list[dict[str, Any]]:
        one, other = network.parameters()
        return [{"params": [one], **setting}, {"params": [other], "dampening": 0, "lr": 0.1}]

    settings = {"class": "sgd", "lr": 0.1, "momentum": 0.9, "parameters": groups}
    assert chosen(settings, nn.Linear(3, 2)) == (None, None)


def updates(name: str, turns: list[str], **options: Any) -> nn.ModuleDict:
    """Train a trunk and two heads, of which each step uses those it names."""
    torch.manual_seed(0)
    network = nn.ModuleDict({"trunk": nn.Linear(5, 7), "a": nn.Linear(7, 3), "b": nn.Linear(7, 3)})
    update = Update(dict(network.named_parameters()), {"class": name, "lr": 0.05, **options}, network, clip_norm=1.0)
    for index, turn in enumerate(turns):
        x = torch.randn(4, 5, generator=torch.Generator().manual_seed(index))
        heads = sum(network[head](network["trunk"](x)).square().mean() for head in turn)
        update.backward(heads, lambda: torch.zeros(()))  # type: ignore[arg-type]
        update.end_step()
    return network


@pytest.mark.parametrize("turns", [["ab"] * 5, ["a", "b", "ab", "a"]], ids=["together", "in turn"])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sgd", {}),
        ("sgd", {"momentum": 0.9}),
        ("sgd", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
        ("sgd", {"momentum": 0.9, "maximize": True}),
        ("adam", {"amsgrad": True}),
        ("adamw", {"weight_decay": 0.1}),
        *((name, {}) for name in ("adagrad", *FOREACH)),
    ],
)
def test_all_train_alike(name: str, options: Any, turns: list[str]) -> None:
    fast = updates(name, turns, **options)
    plain = updates(name, turns, **options, **{"fused" if name in FUSED else "foreach": False})
    for (key, ours), theirs in zip(fast.state_dict().items(), plain.state_dict().values(), strict=True):
        # Both compute in float32 and round in another order: a few units in the last of its 24 bits, five times.
        torch.testing.assert_close(ours, theirs, rtol=5e-6, atol=5e-7, msg=lambda text, key=key: f"{key}: {text}")


def test_a_momentum_that_begins_late_is_found_whoever_has_looked_for_it() -> None:
    weights = [nn.Parameter(torch.ones(2)) for _ in range(3)]
    settings = {"class": "sgd", "lr": 0.5, "momentum": 0.5, "fused": True}
    update = Update({str(index): weight for index, weight in enumerate(weights)}, settings)
    for used in ([0], [0], [0, 1], [0, 1], [0, 1, 2]):
        assert not update.optimizer.state[weights[2]]  # torch makes an empty entry where there is none
        update.backward(sum(weights[index].sum() for index in used), lambda: torch.zeros(()))  # type: ignore[arg-type]
        update.end_step()
    # Gradients are 1: momentum is 1, 1.5, 1.75, …, and each update takes half of it off.
    expected = [1 - 0.5 * sum(2 - 0.5**step for step in range(steps)) for steps in (5, 3, 1)]
    assert [weight.tolist() for weight in weights] == [[value] * 2 for value in expected]


def test_momentum_is_left_alone_where_it_would_make_a_difference() -> None:
    """With dampening the first gradient counts in full, which a momentum of 0 to begin with would change."""
    weights = {name: nn.Parameter(torch.ones(1)) for name in ("fused", "plain")}
    network = nn.ParameterDict(weights)

    def groups(network: nn.Module) -> list[dict[str, Any]]:
        one, other = network.parameters()
        return [{"params": [one], "fused": True}, {"params": [other], "fused": False, "dampening": 0.5}]

    settings = {"class": "sgd", "lr": 1.0, "momentum": 0.5, "parameters": groups}
    update = Update(dict(network.named_parameters()), settings, network)
    for _ in range(2):
        update.backward(sum(weight.sum() for weight in weights.values()), lambda: torch.zeros(()))  # type: ignore[arg-type]
        update.end_step()
    # Gradients are 1. Fused: 1, then 0.5 + 1. With dampening: 1, then 0.5 + 0.5.
    assert [weight.item() for weight in weights.values()] == [1 - 1 - 1.5, 1 - 1 - 1.0]


@pytest.mark.parametrize("name", FUSED)
@pytest.mark.parametrize(("before", "after"), [(True, False), (False, True)])
def test_a_checkpoint_of_one_is_continued_by_the_other(name: str, before: bool, after: bool) -> None:
    network, x = nn.Linear(3, 2), torch.randn(4, 3)
    momentum = {"momentum": 0.9} if name == "sgd" else {}

    def train(optimizer: torch.optim.Optimizer, trained: nn.Module) -> None:
        for _ in range(3):
            optimizer.zero_grad()
            trained(x).square().mean().backward()
            optimizer.step()

    def make(trained: nn.Module, fused: bool) -> torch.optim.Optimizer:
        settings = {"class": name, "lr": 0.05, "fused": fused, **momentum}
        return create_optimizer(settings, trained.named_parameters(), trained)

    first = make(network, before)
    train(first, network)
    twin = copy.deepcopy(network)
    second = make(twin, after)
    load_optimizer_state(second, copy.deepcopy(optimizer_state(first)))
    train(first, network)
    train(second, twin)
    # One order of roundings against another, for three updates: a few units in the last of float32's 24 bits.
    torch.testing.assert_close(twin.weight, network.weight, rtol=1e-6, atol=1e-7)
    for ours, theirs in zip(optimizer_state(second).values(), optimizer_state(first).values(), strict=True):
        assert ours.keys() == theirs.keys()
        assert ours.get("step") == theirs.get("step")


def test_state_and_gradients_are_restored_in_the_order_of_the_parameter() -> None:
    """The kernels on the CPU take for granted that all tensors lie in memory as the parameter does."""
    weight = nn.Parameter(torch.arange(6.0).reshape(2, 3))
    update = Update({"weight": weight}, {"class": "adam", "fused": True}, accumulate=2)
    for _ in range(3):
        update.backward((weight**2).sum(), lambda: torch.zeros(()))
        update.end_step()
    state = copy.deepcopy(update.state_dict())
    entry = state["optimizer"]["weight"]
    turned = {key: value.t().contiguous().t() if value.dim() else value for key, value in entry.items()}
    state = {**state, "optimizer": {"weight": turned}, "gradients": {"weight": weight.grad.t().contiguous().t()}}
    twin = nn.Parameter(weight.detach().clone())
    second = Update({"weight": twin}, {"class": "adam", "fused": True}, accumulate=2)
    second.load_state_dict(state)
    for one, trained in ((update, weight), (second, twin)):
        one.backward((trained**2).sum(), lambda: torch.zeros(()))
        one.end_step()
    assert torch.equal(weight, twin)


def test_an_update_that_overflows_is_left_out_by_the_kernel_itself() -> None:
    """With fp16 the kernel gets the scale's verdict on the device, so that nothing waits for it."""
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    update = Update({"weight": weight}, {"class": "adam", "lr": 0.5}, scaler=scaler)
    update.backward((weight * torch.tensor([1.0, math.inf])).sum(), lambda: torch.zeros(()))
    update.end_step()
    assert weight.tolist() == [1.0, 2.0]
    assert scaler.get_scale() == 4.0
    assert float(update.optimizer.state[weight]["step"]) == 0.0
    update.backward(weight.sum(), lambda: torch.zeros(()))
    update.end_step()
    # The first update of adam moves each weight by the rate, but for eps = 1e-8.
    assert weight.tolist() == pytest.approx([0.5, 1.5], abs=1e-6)
