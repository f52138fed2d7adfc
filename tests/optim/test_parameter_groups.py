"""Groups of parameters, each with options of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from emloop_mtl.errors import ConfigError
from emloop_mtl.models.multi_task_model import MultiTaskModel

Groups = Callable[[nn.ModuleDict], Any]


def trunk_and_heads(network: nn.ModuleDict) -> list[dict[str, Any]]:
    heads = [*network["a_head"].parameters(), *network["b_head"].parameters()]
    return [{"params": network["trunk"].parameters(), "lr": 0.05}, {"params": heads, "weight_decay": 0.1}]


def settings(groups: Groups = trunk_and_heads, **options: Any) -> dict[str, Any]:
    return {"class": "sgd", "lr": 0.5, "momentum": 0.9, "parameters": groups, **options}


def train(model: MultiTaskModel, make_batches: Any, seeds: range) -> None:
    for seed in seeds:
        for batch in make_batches(seed=seed):
            model.run(batch, train=True)


def test_it_equals_torchs_own_groups(make_model: Any, make_batches: Any) -> None:
    """Also where gradients are clipped by the norm over all groups."""
    model = make_model(settings(), {"clip_norm": 0.5})
    modules = make_model("sgd").network
    optimizer = torch.optim.SGD(trunk_and_heads(modules), lr=0.5, momentum=0.9)
    train(model, make_batches, range(4))
    for seed in range(4):
        for task, weight, batch in zip("ab", (1.0, 0.5), make_batches(seed=seed), strict=True):
            outputs = modules[f"{task}_head"](modules["trunk"](batch["x"]))
            (weight * nn.functional.cross_entropy(outputs, batch[task])).backward()
        nn.utils.clip_grad_norm_(modules.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
    for name, value in modules.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_the_learning_rate_of_each_group_follows_from_its_own(make_model: Any, make_batches: Any) -> None:
    model = make_model(settings())
    assert model.learning_rate.current == [0.05, 0.5]
    model.learning_rate.warm_up(steps=2)
    model.set_length(4, None)
    train(model, make_batches, range(2))
    assert model.learning_rate.current == [0.025, 0.25]


@pytest.mark.parametrize("name", ["adam", "bert_adam"])
@pytest.mark.parametrize("stop", range(4))
def test_state_is_known_by_names_and_options_come_from_the_settings(
    make_model: Any, make_batches: Any, name: str, stop: int
) -> None:
    def backwards(network: nn.ModuleDict) -> list[dict[str, Any]]:
        return [{**group, "params": list(group["params"])[::-1]} for group in trunk_and_heads(network)[::-1]]

    def adam(groups: Groups) -> dict[str, Any]:
        return {"class": name, "lr": 0.1, "parameters": groups}

    update = {"accumulate": 2}
    whole, first = (make_model(adam(trunk_and_heads), update) for _ in range(2))
    second = make_model(adam(backwards), update)
    train(whole, make_batches, range(4))
    train(first, make_batches, range(stop))
    state = first.training_state_dict()
    assert set(state["optimizer"]) <= set(first.state_dict())
    second.load_state_dict(first.state_dict())
    second.load_training_state_dict(state)
    assert second.learning_rate.current == [0.1, 0.05]
    train(second, make_batches, range(stop, 4))
    for key, value in whole.state_dict().items():
        assert torch.equal(second.state_dict()[key], value), key


@pytest.mark.parametrize(
    "name", ["asgd", "adadelta", "adagrad", "adam", "adamw", "adamax", "rms_prop", "r_prop", "sgd"]
)
def test_every_optimizer_takes_groups(make_model: Any, make_batches: Any, name: str) -> None:
    model = make_model({"class": name, "lr": 0.1, "parameters": lambda network: everything(network, lr=0.5)})
    train(model, make_batches, range(1))
    assert model.learning_rate.current == [0.5]


def test_the_function_may_freeze_and_unfreeze(make_model: Any, make_batches: Any) -> None:
    def only_heads(network: nn.ModuleDict) -> list[dict[str, Any]]:
        network["trunk"].requires_grad_(False)
        network["a_head"].bias.requires_grad_(True)
        return [{"params": network.parameters()}]

    torch.manual_seed(0)
    modules = {"trunk": nn.Linear(3, 4), "a_head": nn.Linear(4, 2), "b_head": nn.Linear(4, 2)}
    modules["a_head"].bias.requires_grad_(False)
    before = {name: value.clone() for name, value in nn.ModuleDict(modules).state_dict().items()}
    model = make_model({"class": "adam", "parameters": only_heads}, {"clip_norm": 1.0}, modules=modules)
    train(model, make_batches, range(1))
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"a_head.weight", "a_head.bias", "b_head.weight", "b_head.bias"}
    assert set(model.training_state_dict()["optimizer"]) == changed


def test_params_may_be_one_parameter_or_named_ones(make_model: Any, make_batches: Any) -> None:
    def groups(network: nn.ModuleDict) -> tuple[dict[str, Any], ...]:
        weights = [parameter for name, parameter in network.named_parameters() if name != "trunk.0.bias"]
        return ({"params": network["trunk"][0].bias}, {"params": zip("abcde", weights, strict=True)})

    model = make_model(settings(groups))
    train(model, make_batches, range(1))
    assert set(model.training_state_dict()["optimizer"]) == set(model.state_dict())


def test_a_tied_parameter_may_be_named_twice_in_one_group(make_model: Any) -> None:
    def groups(network: nn.ModuleDict) -> list[dict[str, Any]]:
        return [{"params": [*network.parameters(), network["a_head"].weight]}]

    assert len(make_model(settings(groups)).optimizer.param_groups[0]["params"]) == 6


def test_an_optimizer_of_ones_own_gets_plain_parameters(make_model: Any, make_batches: Any) -> None:
    class Own(torch.optim.Adam):
        def __init__(self, groups: Any, rate: float, **options: Any) -> None:
            for group in groups:
                assert all(parameter.requires_grad for parameter in group["params"])
            super().__init__(groups, lr=rate, **options)

    model = make_model({"class": Own, "rate": 0.1, "amsgrad": True, "parameters": trunk_and_heads})
    train(model, make_batches, range(1))
    assert "max_exp_avg_sq" in model.training_state_dict()["optimizer"]["trunk.0.weight"]


def everything(network: nn.ModuleDict, **options: Any) -> list[dict[str, Any]]:
    return [{"params": network.parameters(), **options}]


def two_of_one(network: nn.ModuleDict) -> list[dict[str, Any]]:
    return [*everything(network), {"params": network["a_head"].weight}]


def all_frozen(network: nn.ModuleDict) -> list[dict[str, Any]]:
    network["a_head"].requires_grad_(False)
    return [{"params": network["a_head"].parameters()}, {"params": network["trunk"].parameters()}]


MISTAKES: dict[str, tuple[Any, str]] = {
    "forgotten": (
        lambda network: [{"params": network["trunk"].parameters()}],
        r"'a_head.weight' requires gradients and is in no group; add it to one, or freeze it with requires_grad_\(F",
    ),
    "twice": (two_of_one, "group 1 and group 0 both hold 'a_head.weight'"),
    "foreign": (
        lambda network: [*everything(network), {"params": [nn.Parameter(torch.zeros(2, 5))]}],
        r"group 1 holds a tensor of shape \(2, 5\) that is no parameter of the network",
    ),
    "empty": (
        lambda network: [*everything(network), {"params": []}],
        "group 1 has no parameter that requires gradients; leave it out",
    ),
    "frozen": (all_frozen, "group 0 has no parameter that requires gradients"),
    "no groups": (lambda network: [], "'trunk.0.weight' requires gradients and is in no group"),
    "no params": (lambda network: [{"lr": 0.1}], "group 0 lacks the key 'params'"),
    "params is a module": (
        lambda network: [{"params": network["trunk"][0]}],
        "group 0: 'params' must be a list of parameters, not a Linear",
    ),
    "params are modules": (
        lambda network: [{"params": [network["trunk"]]}],
        "group 0 holds a Sequential, not a parameter",
    ),
    "a list of parameters": (
        lambda network: list(network.parameters()),
        r"must return a list of groups such as \[\{'params': .*, not a list with a Parameter",
    ),
    "a generator": (lambda network: network.parameters(), "must return a list of groups .*, not a generator"),
    "nothing": (lambda network: None, "must return a list of groups .*, not a NoneType"),
    "an error": (lambda network: network["tronk"], "the function failed, KeyError: 'tronk'"),
    "wrong arguments": (lambda network, names: [], "the function failed, TypeError: "),
    "unknown option": (
        lambda network: everything(network, lrr=1),
        "group 0: unknown option 'lrr'; did you mean 'lr'",
    ),
    "option of a wrong type": (lambda network: everything(network, lr="1"), "group 0: lr must be a number, not '1'"),
    "option out of range": (
        lambda network: everything(network, momentum=-1.0),
        "group 0: Invalid momentum value: -1.0",
    ),
    "no function": (3, "must be a function of the network that returns parameter groups, not 3"),
    "a name": ("module.groups", "must be a function .*, not 'module.groups'; in Python give the function itself"),
}


@pytest.mark.parametrize(("groups", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(make_model: Any, groups: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        make_model(settings(groups))
    assert caught.value.path == ("optimizer", "parameters")
    assert "\n" not in str(caught.value)
