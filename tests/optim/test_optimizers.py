import pytest
import torch
from torch import nn

from emloop_mtl.errors import ConfigError
from emloop_mtl.optim.optimizers import (
    create_optimizer,
    find_optimizer,
    load_optimizer_state,
    optimizer_classes,
    optimizer_state,
)


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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"class": "adamx"}, "unknown class 'adamx'; did you mean 'adamax'"),
        ({"class": "adam", "learning_rate": 0.1}, "Adam: unknown argument 'learning_rate'"),
        ({"class": "sgd", "momentun": 0.1}, "did you mean 'momentum'"),
        ({"class": nn.Linear}, "Linear is no optimizer of torch"),
        ({"lr": 0.1}, "the key 'class' is missing"),
        ({"class": "sgd", "lr": -1.0}, "Invalid learning rate: -1.0"),
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
