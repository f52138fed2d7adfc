import math
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from emloop_mtl.optim.bert_adam import BertAdam
from emloop_mtl.optim.optimizers import create_optimizer, load_optimizer_state, optimizer_state

OPTIONS = {"lr": 0.1, "betas": (0.8, 0.9), "eps": 0.01, "weight_decay": 0.05}


def gradients(count: int) -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        yield torch.randn(3, generator=generator, dtype=torch.float64)


def by_hand(weights: list[float], steps: int) -> list[float]:
    mean, square = [0.0] * 3, [0.0] * 3
    for gradient in gradients(steps):
        for i, g in enumerate(gradient.tolist()):
            mean[i] = 0.8 * mean[i] + 0.2 * g
            square[i] = 0.9 * square[i] + 0.1 * g * g
            change = mean[i] / (math.sqrt(square[i]) + 0.01) + 0.05 * weights[i]
            weights[i] -= 0.1 * change
    return weights


def train(optimizer: torch.optim.Optimizer, weight: nn.Parameter, steps: int, start: int = 0) -> None:
    for index, gradient in enumerate(gradients(steps)):
        if index >= start:
            weight.grad = gradient.clone()
            optimizer.step()


def make() -> tuple[BertAdam, nn.Parameter]:
    weight = nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64))
    return BertAdam([weight], **OPTIONS), weight  # type: ignore[arg-type]


def test_the_rule() -> None:
    optimizer, weight = make()
    train(optimizer, weight, 7)
    # Seven updates in another order of operations, in float64.
    assert weight.tolist() == pytest.approx(by_hand([1.0, -2.0, 0.5], 7), rel=1e-13)


def test_defaults() -> None:
    group = BertAdam([nn.Parameter(torch.zeros(1))]).param_groups[0]
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (0.001, (0.9, 0.999), 1e-8, 0.0)


def test_without_a_gradient_nothing_changes_not_even_by_decay() -> None:
    optimizer, weight = make()
    optimizer.step()
    assert weight.tolist() == [1.0, -2.0, 0.5]
    assert not optimizer.state


@pytest.mark.parametrize("stop", range(5))
def test_going_on_from_a_state_changes_nothing(stop: int) -> None:
    optimizer, weight = make()
    train(optimizer, weight, 5)
    first, halfway = make()
    train(first, halfway, stop)
    twin = nn.Parameter(halfway.detach().clone())
    second = BertAdam([twin], **OPTIONS)  # type: ignore[arg-type]
    second.load_state_dict(first.state_dict())
    train(second, twin, 5, start=stop)
    assert torch.equal(twin, weight)


def test_its_state_is_known_by_names() -> None:
    weight = nn.Parameter(torch.zeros(2))
    optimizer = create_optimizer({"class": "bert_adam"}, [("a", weight)])
    weight.grad = torch.ones(2)
    optimizer.step()
    state = optimizer_state(optimizer)
    assert state["a"].keys() == {"exp_avg", "exp_avg_sq"}
    other = create_optimizer({"class": "bert_adam"}, [("b", nn.Parameter(torch.zeros(1))), ("a", weight)])
    load_optimizer_state(other, state)
    assert torch.equal(other.state[weight]["exp_avg"], optimizer.state[weight]["exp_avg"])


def test_groups_of_several_dtypes_with_options_of_their_own() -> None:
    weights = [nn.Parameter(torch.ones(2, dtype=dtype)) for dtype in (torch.float32, torch.float64, torch.bfloat16)]
    optimizer = BertAdam([{"params": weights[:2]}, {"params": weights[2:], "lr": 1.0, "betas": (0.0, 0.0)}], lr=0.5)
    for weight in weights:
        weight.grad = torch.full_like(weight, 4.0)
    optimizer.step()
    # In the first update m = 0.1 g and v = 0.001 g²; where the betas are 0, m = g and v = g².
    expected = 1 - 0.5 * 0.4 / (math.sqrt(0.016) + 1e-8)
    assert weights[0].tolist() == pytest.approx([expected] * 2, rel=1e-6)  # float32
    assert weights[1].tolist() == pytest.approx([expected] * 2, rel=1e-14)
    assert weights[2].tolist() == [0.0, 0.0]


def test_a_closure_is_called_and_its_loss_returned() -> None:
    weight = nn.Parameter(torch.ones(1))
    optimizer = BertAdam([weight], lr=0.1)

    def closure() -> float:
        optimizer.zero_grad()
        loss = (weight**2).sum()
        loss.backward()
        return float(loss.detach())

    assert optimizer.step(closure) == 1.0
    assert float(weight.detach()) < 1.0


@pytest.mark.parametrize("gradient", [1.0, math.inf])
def test_it_goes_with_a_scaler(gradient: float) -> None:
    weight, twin = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    optimizer = BertAdam([weight], lr=0.1)
    scaler.scale((weight * gradient).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    if gradient == 1.0:
        twin.grad = torch.ones(1)
        BertAdam([twin], lr=0.1).step()
    assert torch.equal(weight, twin)  # a step with infinite gradients is left out


def test_it_does_not_wait_for_the_device() -> None:
    optimizer, weight = make()
    weight.grad = torch.ones_like(weight)
    with torch.device("meta"):
        other = nn.Parameter(torch.ones(3))
    other.grad = torch.ones_like(other)
    optimizer.add_param_group({"params": [other]})
    optimizer.step()  # a value read from a meta tensor would be an error
    assert optimizer.state[other]["exp_avg"].is_meta


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -0.1}, "lr must be 0 or more, not -0.1"),
        ({"eps": -1.0}, "eps must be 0 or more"),
        ({"weight_decay": math.nan}, "weight_decay must be 0 or more, not nan"),
        ({"betas": (0.9, 1.0)}, "betas must be two numbers from 0 to under 1"),
        ({"betas": (0.9,)}, "betas must be two numbers"),
    ],
)
def test_options_out_of_range_are_refused_in_groups_as_well(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BertAdam([nn.Parameter(torch.zeros(1))], **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        BertAdam([{"params": [nn.Parameter(torch.zeros(1))], **options}])


def test_sparse_gradients_and_complex_parameters_are_refused() -> None:
    embedding = nn.Embedding(3, 2, sparse=True)
    embedding(torch.tensor([0])).sum().backward()
    with pytest.raises(RuntimeError, match="does not take sparse gradients"):
        BertAdam(embedding.parameters()).step()
    with pytest.raises(ValueError, match="complex"):
        BertAdam([nn.Parameter(torch.zeros(1, dtype=torch.complex64))])
