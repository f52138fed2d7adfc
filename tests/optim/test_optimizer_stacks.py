from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from emloop_mtl.optim.optimizer_stacks import ELEMENTWISE, OptimizerStacks
from emloop_mtl.optim.optimizers import optimizer_state
from emloop_mtl.optim.stacked_name import StackedName
from emloop_mtl.optim.stacked_parameter import StackedParameter
from emloop_mtl.optim.update import Update

NAMES = ["a.weight", "a.bias", "b.weight", "b.bias", "c.weight", "c.bias"]


def make(kind: str = "adam", **options: Any) -> tuple[nn.ModuleDict, Update]:
    torch.manual_seed(0)
    network = nn.ModuleDict({name: nn.Linear(3, 2).double() for name in "abc"})
    return network, Update(dict(network.named_parameters()), {"class": kind, "lr": 0.1, **options}, network)


def stacks_of(network: nn.ModuleDict) -> list[StackedParameter]:
    owners = [network[name] for name in "abc"]
    return [
        StackedParameter([f"{name}.{attribute}" for name in "abc"], owners, attribute)
        for attribute in ("weight", "bias")
    ]


def step(network: nn.ModuleDict, update: Update, stacks: list[StackedParameter] | None, seed: int) -> None:
    """Give every parameter a gradient, or the leaves the same gradients, and update."""
    generator = torch.Generator().manual_seed(seed)
    for attribute in ("weight", "bias"):
        members = [getattr(network[name], attribute) for name in "abc"]
        gradients = [torch.randn(member.shape, generator=generator, dtype=torch.float64) for member in members]
        if stacks is None:
            for member, gradient in zip(members, gradients, strict=True):
                member.grad = gradient
        else:
            leaf = next(stacked.leaf for stacked in stacks if stacked.name.members[0] == f"a.{attribute}")
            leaf.grad = torch.cat(gradients)
    update.end_step()


@pytest.mark.parametrize("kind", [kind.__name__ for kind in ELEMENTWISE])
def test_every_elementwise_optimizer_does_the_same_to_parameters_that_are_one(kind: str) -> None:
    options = {"momentum": 0.9} if kind == "SGD" else {}
    together, apart = make(kind, **options), make(kind, **options)
    stacks: list[StackedParameter] | None = None
    for number in range(6):
        if number == 2:
            stacks = stacks_of(together[0])
            together[1].stack(stacks)
        if number == 4:
            assert stacks is not None
            together[1].unstack(stacks)
            for stacked in stacks:
                stacked.release()
            stacks = None
        step(*together, stacks, number)
        step(*apart, None, number)
        for name, weight in apart[0].state_dict().items():
            # Each number has the same operations, but a vector's end may be computed by other instructions.
            torch.testing.assert_close(together[0].state_dict()[name], weight, rtol=1e-14, atol=1e-14)
        first, second = (optimizer_state(update.optimizer) for _, update in (together, apart))
        assert sorted(first) == sorted(second) == sorted(NAMES)
        for name, entry in second.items():
            assert entry.keys() == first[name].keys()
            for key, value in entry.items():
                # as the weights above
                torch.testing.assert_close(first[name][key], value, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("kind", ["LBFGS", "Adafactor", "SparseAdam", "ASGD", "BertAdam", "Muon"])
def test_other_optimizers_hold_each_parameter_by_itself(kind: str) -> None:
    found = next((k for k in torch.optim.Optimizer.__subclasses__() if k.__name__ == kind), None)
    assert found is None or found not in ELEMENTWISE


def test_parameters_stand_in_an_order_of_their_own() -> None:
    network, update = make()
    stacks = stacks_of(network)
    update.stack(stacks)
    assert update.optimizer.param_groups[0]["param_names"] == [
        "a.weight + b.weight + c.weight",
        "a.bias + b.bias + c.bias",
    ]
    update.unstack(stacks)
    assert update.optimizer.param_groups[0]["param_names"] == NAMES
    assert update.optimizer.param_groups[0]["params"] == list(network.parameters())


def test_the_name_of_a_stack_survives_copies() -> None:
    name = StackedName(["a", "b"])
    for twin in (copy.copy(name), copy.deepcopy(name)):
        assert (twin, twin.members) == ("a + b", ("a", "b"))


def test_members_are_parts_of_the_leaf_until_they_are_released() -> None:
    network, _ = make()
    before = copy.deepcopy(network.state_dict())
    stacked = stacks_of(network)[0]
    network.load_state_dict({name: value + 1 for name, value in before.items()})
    assert torch.equal(stacked.leaf[2:4], before["b.weight"] + 1)
    assert stacked.is_intact()
    with torch.no_grad():
        stacked.leaf.zero_()
    assert not network["c"].weight.any()
    stacked.release()
    assert not stacked.is_intact()
    with torch.no_grad():
        stacked.leaf.fill_(3)
    assert not network["c"].weight.any()
    assert network["c"].weight.untyped_storage().nbytes() == network["c"].weight.nbytes


def test_a_weight_that_somebody_has_exchanged_is_kept() -> None:
    network, _ = make()
    stacked = stacks_of(network)[0]
    network["b"].weight.data = torch.ones(2, 3, dtype=torch.float64)
    assert not stacked.is_intact()
    stacked.release()
    assert torch.equal(network["b"].weight, torch.ones(2, 3, dtype=torch.float64))


def test_open_gradients_are_joined_and_parted() -> None:
    network, update = make()
    for number, parameter in enumerate(network.parameters()):
        parameter.grad = torch.full_like(parameter, number)
    before = {name: gradient.clone() for name, gradient in update.gradients().items()}
    stacks = stacks_of(network)
    update.stack(stacks)
    assert all(parameter.grad is None for parameter in network.parameters())
    for undone in (False, True):
        if undone:
            update.unstack(stacks)
        gradients = update.gradients()
        assert sorted(gradients) == sorted(NAMES)
        assert all(torch.equal(gradients[name], value) for name, value in before.items())


def test_conditions_tell_what_differs() -> None:
    network, update = make()
    stacks = OptimizerStacks(update.optimizer, update.learning_rate)
    conditions = stacks.conditions()
    assert conditions[network["a"].weight] == conditions[network["b"].weight]
    network["a"].weight.grad = torch.zeros_like(network["a"].weight)
    update.end_step()
    conditions = stacks.conditions()
    assert conditions[network["a"].weight] != conditions[network["b"].weight]
    assert conditions[network["c"].weight] == conditions[network["b"].weight]
