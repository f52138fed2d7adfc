import copy
import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from emloop_mtl.errors import ConfigError
from emloop_mtl.optim.bert_adam import BertAdam
from emloop_mtl.optim.optimizers import (
    create_optimizer,
    find_optimizer,
    load_optimizer_state,
    optimizer_classes,
    optimizer_state,
    read_settings,
)

EMMENTALS: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "asgd": (torch.optim.ASGD, {"lambd": 2e-4, "alpha": 0.7, "t0": 1e5}),
    "adadelta": (torch.optim.Adadelta, {"rho": 0.8, "eps": 1e-5}),
    "adagrad": (torch.optim.Adagrad, {"lr_decay": 0.1, "initial_accumulator_value": 0.2, "eps": 1e-9}),
    "adam": (torch.optim.Adam, {"betas": [0.8, 0.99], "eps": 1e-7, "amsgrad": True}),
    "adamw": (torch.optim.AdamW, {"betas": [0.8, 0.99], "eps": 1e-7, "amsgrad": True}),
    "adamax": (torch.optim.Adamax, {"betas": [0.8, 0.99], "eps": 1e-7}),
    "lbfgs": (
        torch.optim.LBFGS,
        {"max_iter": 5, "max_eval": 9, "tolerance_grad": 1e-6, "history_size": 3, "line_search_fn": "strong_wolfe"},
    ),
    "rms_prop": (torch.optim.RMSprop, {"alpha": 0.9, "eps": 1e-7, "momentum": 0.5, "centered": True}),
    "r_prop": (torch.optim.Rprop, {"etas": [0.4, 1.3], "step_sizes": [1e-5, 40]}),
    "sgd": (torch.optim.SGD, {"momentum": 0.9, "dampening": 0, "nesterov": True}),
    "sparse_adam": (torch.optim.SparseAdam, {"betas": [0.8, 0.99], "eps": 1e-7}),
    "bert_adam": (BertAdam, {"betas": [0.8, 0.99], "eps": 1e-7}),
}


@pytest.mark.parametrize("name", EMMENTALS)
def test_the_twelve_of_emmental_with_their_options(name: str) -> None:
    kind, options = EMMENTALS[name]
    options = {**options, "lr": 0.25}
    if name not in ("lbfgs", "r_prop", "sparse_adam"):
        options["weight_decay"] = 0.125
    layer = nn.Embedding(3, 2, sparse=name == "sparse_adam")
    optimizer = create_optimizer({"class": name, **options}, layer.named_parameters(), layer)
    assert type(optimizer) is kind
    (group,) = optimizer.param_groups
    assert {key: list(group[key]) if isinstance(group[key], tuple) else group[key] for key in options} == options
    before = layer.weight.detach().clone()

    def closure() -> Any:
        optimizer.zero_grad()
        loss = (layer(torch.tensor([0, 2])) ** 2).sum()
        loss.backward()
        return loss.detach()

    optimizer.step(closure)
    assert not torch.equal(layer.weight[[0, 2]], before[[0, 2]])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, {"class": "adam"}),
        ("sgd", {"class": "sgd"}),
        (torch.optim.SGD, {"class": torch.optim.SGD}),
        (partial(torch.optim.SGD, lr=0.1), {"class": torch.optim.SGD, "lr": 0.1}),
        (
            {"class": partial(torch.optim.SGD, lr=0.1, momentum=0.9), "lr": 0.2},
            {"class": torch.optim.SGD, "lr": 0.2, "momentum": 0.9},
        ),
        ({"class": "sgd", "lr": 0.1}, {"class": "sgd", "lr": 0.1}),
        ({"lr": 0.1}, {"lr": 0.1}),  # refused with the reason later, by check_optimizer
    ],
)
def test_short_forms(given: Any, expected: dict[str, Any]) -> None:
    assert read_settings(given) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "expected a name such as adamw, or {class: adamw, lr: 0.001}, not 3"),
        ({"class": 3}, "expected a name such as adamw"),
        (["adam"], r"not \['adam'\]"),
        (partial(torch.optim.SGD, [], 0.1), "a partial must give its arguments by name"),
        (torch.optim.SGD([nn.Parameter(torch.zeros(1))]), "give the class SGD and its arguments"),
    ],
)
def test_what_names_no_optimizer_is_refused(given: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_settings(given)


@pytest.mark.parametrize("given", ["sgd", torch.optim.SGD, partial(torch.optim.SGD, lr=0.001), {"class": "sgd"}])
def test_a_model_takes_short_forms(make_model: Any, given: Any) -> None:
    assert type(make_model(given).optimizer) is torch.optim.SGD


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("adamx", ("optimizer", "class")),
        (3, ("optimizer",)),
        ({"class": "sgd", "lr": "x"}, ("optimizer", "lr")),
        ({"class": "sgd", "lr": -1}, ("optimizer",)),
    ],
)
def test_a_mistake_leads_to_its_place(make_model: Any, given: Any, path: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        make_model(given)
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("adamw", torch.optim.AdamW),
        ("AdamW", torch.optim.AdamW),
        ("rms_prop", torch.optim.RMSprop),
        ("torch.optim.SGD", torch.optim.SGD),
        (torch.optim.Adagrad, torch.optim.Adagrad),
    ],
)
def test_names(name: object, kind: type) -> None:
    assert find_optimizer(name) is kind


def test_every_optimizer_of_torch_can_be_created() -> None:
    for name, kind in optimizer_classes().items():
        parameters = [("weight", nn.Parameter(torch.zeros(2, 2)))]
        assert type(create_optimizer({"class": name, "lr": 0.1}, parameters)) is kind


class Needy(torch.optim.SGD):
    def __init__(self, weights: Any, rate: float) -> None:
        super().__init__(weights, lr=rate)


class Open(torch.optim.SGD):
    def __init__(self, params: Any, **options: Any) -> None:
        super().__init__(params, **options)


def test_what_an_optimizer_takes_by_any_name_is_handed_on() -> None:
    optimizer = create_optimizer({"class": Open, "lr": 0.5}, [("weight", nn.Parameter(torch.zeros(1)))])
    assert optimizer.param_groups[0]["lr"] == 0.5
    with pytest.raises(ConfigError, match=r"Open: .*unexpected keyword argument 'lrr'"):
        create_optimizer({"class": Open, "lrr": 0.5}, [("weight", nn.Parameter(torch.zeros(1)))])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"class": "adamx"}, "unknown class 'adamx'; did you mean 'adamax'"),
        ({"class": "adam", "learning_rate": 0.1}, "Adam: unknown argument 'learning_rate'"),
        ({"class": "sgd", "momentun": 0.1}, "did you mean 'momentum'"),
        ({"class": nn.Linear}, "Linear is no optimizer of torch"),
        ({"lr": 0.1}, "the key 'class' is missing"),
        ({"class": "sgd", "lr": -1.0}, "Invalid learning rate: -1.0"),
        ({"class": "sgd", "nesterov": 1}, "SGD: nesterov must be true or false, not 1"),
        ({"class": "sgd", "momentum": True}, "SGD: momentum must be a number, not True"),
        ({"class": "sgd", "lr": math.nan}, "SGD: lr must be a finite number, not nan"),
        ({"class": "adam", "betas": [0.9, math.inf]}, "Adam: betas must be a list of 2 numbers"),
        ({"class": "sgd", "nesterov": True}, "SGD: Nesterov momentum requires a momentum"),
        ({"class": "adam", "betas": 0.9}, "Adam: betas must be a list of 2 numbers, not 0.9"),
        ({"class": "adam", "betas": [0.9, "x"]}, "Adam: betas must be a list of 2 numbers"),
        ({"class": "bert_adam", "lr": torch.tensor(0.1)}, "BertAdam: lr must be a number, not a tensor"),
        ({"class": "bert_adam", "betas": [0.9, 1.0]}, "BertAdam: betas must be two numbers from 0 to under 1"),
        (
            {"class": "lbfgs", "line_search_fn": "wolfe"},
            "line_search_fn must be one of null, strong_wolfe, not 'wolfe'",
        ),
        ({"class": "adam", "fused": True, "foreach": True}, "`fused` and `foreach` cannot be `True` together"),
        ({"class": "adam", "params": []}, "unknown argument 'params'; did you mean 'parameters'"),
        ({"class": "own.Adam"}, "unknown class 'own.Adam'; in Python give the class itself"),
        ({"class": nn.Linear(1, 1)}, "is no optimizer of torch"),
        ({"class": Needy}, "Needy: missing argument 'rate'"),
        ({"class": Needy, "rates": 1}, "Needy: unknown argument 'rates'; did you mean 'rate'"),
    ],
)
def test_mistakes(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_optimizer(settings, [("weight", nn.Parameter(torch.zeros(1)))])


def test_state_is_known_by_parameter_names_whatever_their_order() -> None:
    parameters = {name: nn.Parameter(torch.tensor([value])) for name, value in (("a", 1.0), ("b", 2.0))}
    first = create_optimizer({"class": "adam", "lr": 0.1}, parameters.items())
    for value, parameter in enumerate(parameters.values()):
        parameter.grad = torch.tensor([value + 1.0])
    first.step()
    second = create_optimizer({"class": "adam", "lr": 0.1}, reversed(parameters.items()))
    load_optimizer_state(second, optimizer_state(first))
    for parameter in parameters.values():
        assert torch.equal(second.state[parameter]["exp_avg"], first.state[parameter]["exp_avg"])


def test_state_of_an_unknown_parameter_is_refused() -> None:
    optimizer = create_optimizer({"class": "adam"}, [("a", nn.Parameter(torch.zeros(1)))])
    with pytest.raises(KeyError, match="no parameter 'b'"):
        load_optimizer_state(optimizer, {"b": {}})


@pytest.mark.parametrize("name", ["nadam", "asgd", "radam"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_restored_state_goes_on_to_the_bit_whatever_its_dtype(name: str, dtype: torch.dtype) -> None:
    def begin() -> tuple[nn.Parameter, torch.optim.Optimizer]:
        weight = nn.Parameter(torch.tensor([0.3, -1.0], dtype=dtype))
        return weight, create_optimizer({"class": name, "lr": 0.1}, [("weight", weight)])

    def train(weight: nn.Parameter, optimizer: torch.optim.Optimizer) -> None:
        for _ in range(4):
            weight.grad = torch.sin(weight.detach())
            optimizer.step()

    weight, optimizer = begin()
    train(weight, optimizer)
    other, restored = begin()
    with torch.no_grad():
        other.copy_(weight)
    load_optimizer_state(restored, copy.deepcopy(optimizer_state(optimizer)))
    for key, value in optimizer.state[weight].items():
        assert restored.state[other][key].dtype == value.dtype, key
    train(weight, optimizer)
    train(other, restored)
    assert torch.equal(weight, other)
