"""Optimizers that evaluate a step several times, through the real model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from emloop_mtl.data.batch import Batch
from emloop_mtl.data.column_dataset import ColumnDataset
from emloop_mtl.data.multi_task_dataset import MultiTaskDataset
from emloop_mtl.data.task_loader import TaskLoader
from emloop_mtl.errors import ConfigError
from emloop_mtl.hooks import StopAfter
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.tasks import Action, Task

LBFGS = {"class": "lbfgs", "max_iter": 10}


class Tumours(MultiTaskDataset):
    """Measurements of tumours; all rows make one batch."""

    def loaders(self) -> list[TaskLoader]:
        x, y = load_breast_cancer(return_X_y=True)
        x = StandardScaler().fit_transform(x)[:, :10]
        columns = ColumnDataset("tumours", {"x": torch.tensor(x)}, {"y": torch.tensor(y)})
        return [TaskLoader(columns, batch_size=len(x), shuffle=False)]


@pytest.mark.parametrize("line_search", [None, "strong_wolfe"])
def test_it_finds_the_optimum_that_sklearn_finds(line_search: str | None) -> None:
    strength = 0.01
    head = nn.Linear(10, 1, dtype=torch.float64)
    nn.init.zeros_(head.weight), nn.init.zeros_(head.bias)

    def loss(outputs: Any, label: torch.Tensor) -> torch.Tensor:
        fit = nn.functional.binary_cross_entropy_with_logits(outputs["logit"].squeeze(-1), label.double())
        return fit + strength * (head.weight**2).sum() / 2

    task = Task("y", modules={"head": head}, flow=[Action("logit", "head", "x")], label="y", loss=loss)
    settings = {"class": "lbfgs", "lr": 1, "max_iter": 50, "line_search_fn": line_search, "tolerance_change": 1e-14}
    model = MultiTaskModel([task], optimizer=settings, device="cpu")
    dataset = Tumours()
    MainLoop(model, dataset, [StopAfter(epochs=4)], skip_zeroth_epoch=True).run_training()

    batch = next(iter(dataset.loaders()[0]))
    x, y = batch["x"].numpy(), batch["y"].numpy()
    reference = LogisticRegression(C=1 / (strength * len(x)), tol=1e-12, max_iter=10_000).fit(x, y)
    found = np.append(head.weight.detach().numpy(), head.bias.detach().numpy())
    # Both stop where the gradient is about 1e-7; the smallest curvature is about the strength of the penalty.
    np.testing.assert_allclose(found, np.append(reference.coef_, reference.intercept_), atol=1e-5)


def test_an_evaluation_is_repeated_with_the_same_noise(make_model: Any, make_batches: Any) -> None:
    """Dropout masks and batch statistics are those of the first evaluation, also in a step of several batches."""
    model, steps = make_model(LBFGS, noise=True), [make_batches(seed=seed) for seed in range(3)]
    seen: list[tuple[float, list[float]]] = []
    network = model.network
    mask_of: list[torch.Tensor] = []
    network["trunk"][2].register_forward_hook(lambda module, args, out: mask_of.append(out.detach() == 0))
    for number, step in enumerate(steps):
        torch.manual_seed(number)
        mask_of.clear()
        for batch in step:
            model.run(batch, train=True)
        first = mask_of[:2]
        assert len(mask_of) > 4
        assert not torch.equal(*first)
        for index, mask in enumerate(mask_of):
            assert torch.equal(mask, first[index % 2])
        statistics = network["trunk"][1].running_mean.tolist()
        seen.append((torch.rand(1).item(), statistics))
    assert int(network["trunk"][1].num_batches_tracked) == 6

    # Where only the first evaluation is made, random numbers and statistics of the first step are the same.
    once = make_model({"class": "sgd", "lr": 0.1}, noise=True)
    torch.manual_seed(0)
    for batch in steps[0]:
        once.run(batch, train=True)
    assert (torch.rand(1).item(), once.network["trunk"][1].running_mean.tolist()) == seen[0]


def test_the_loss_is_that_of_before_the_update(make_model: Any, make_batches: Any) -> None:
    model = make_model(LBFGS)
    (batch,) = make_batches("a")
    before = model.run(batch, train=False)["loss"]
    reported = model.run(batch, train=True)["loss"]
    assert float(reported) == float(before)
    assert float(model.run(batch, train=False)["loss"]) < float(before)


@pytest.mark.parametrize("clip_norm", [None, 0.1])
def test_a_mixed_step_equals_torchs_own_use(make_model: Any, make_batches: Any, clip_norm: float | None) -> None:
    model = make_model(LBFGS, {"clip_norm": clip_norm})
    modules = make_model(LBFGS).network
    optimizer = torch.optim.LBFGS(modules.parameters(), max_iter=10)
    for seed in range(3):
        batches = make_batches(seed=seed)

        def closure(batches: list[Batch] = batches) -> torch.Tensor:
            optimizer.zero_grad()
            losses = []
            for task, weight, batch in zip("ab", (1.0, 0.5), batches, strict=True):
                outputs = modules[f"{task}_head"](modules["trunk"](batch["x"]))
                loss = nn.functional.cross_entropy(outputs, batch[task])
                losses.append(loss if weight == 1 else loss * weight)
                losses[-1].backward()
            if clip_norm is not None:
                nn.utils.clip_grad_norm_(modules.parameters(), clip_norm)
            return torch.stack([loss.detach() for loss in losses]).sum()

        for batch in batches:
            model.run(batch, train=True)
        optimizer.step(closure)
    for name, weight in modules.state_dict().items():
        assert torch.equal(model.state_dict()[name], weight), name


@pytest.mark.parametrize("stop", range(4))
def test_going_on_from_a_state_changes_nothing(make_model: Any, make_batches: Any, stop: int) -> None:
    def train(model: MultiTaskModel, seeds: range) -> None:
        for seed in seeds:
            for batch in make_batches(seed=seed):
                model.run(batch, train=True)

    whole, first, second = (make_model({**LBFGS, "line_search_fn": "strong_wolfe"}) for _ in range(3))
    train(whole, range(4))
    train(first, range(stop))
    second.load_state_dict(first.state_dict())
    second.load_training_state_dict(first.training_state_dict())
    train(second, range(stop, 4))
    for name, weight in whole.state_dict().items():
        assert torch.equal(second.state_dict()[name], weight), name


def test_a_step_without_gradients_changes_nothing(make_model: Any) -> None:
    model = make_model(LBFGS)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.update.backward(torch.zeros(()), lambda: torch.zeros(()))
    model.update.end_step()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Careful(torch.optim.SGD):
    """Takes half a step, looks again, and takes the other half."""

    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
        loss = closure()
        super().step()
        with torch.enable_grad():
            closure()
        super().step()
        return loss


def test_any_optimizer_whose_step_needs_a_closure_gets_one(make_model: Any, make_batches: Any) -> None:
    model, twin = make_model({"class": Careful, "lr": 0.05}), make_model({"class": "sgd", "lr": 0.05})
    (batch,) = make_batches("a")
    model.run(batch, train=True)
    twin.run(batch, train=True)
    twin.run(batch, train=True)
    for name, weight in twin.state_dict().items():
        assert torch.equal(model.state_dict()[name], weight), name


@pytest.mark.parametrize(
    ("options", "message", "path"),
    [
        (
            {"update": {"accumulate": 2}},
            "LBFGS evaluates a step several times and cannot work with update.accumulate above 1",
            ("update", "accumulate"),
        ),
        (
            {"precision": "fp16"},
            "LBFGS evaluates a step several times and cannot work with precision fp16, but with bf16 and fp32",
            ("precision",),
        ),
        (
            {
                "optimizer": {
                    **LBFGS,
                    "parameters": lambda network: [{"params": module.parameters()} for module in network.values()],
                }
            },
            r"LBFGS doesn't support per-parameter options",
            ("optimizer", "parameters"),
        ),
    ],
)
def test_what_it_cannot_work_with_is_refused(
    make_model: Any, options: dict[str, Any], message: str, path: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        make_model(**{"optimizer": LBFGS, **options})
    assert caught.value.path == path
    assert "\n" not in str(caught.value)
