"""Embeddings with sparse gradients, through the real model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

from emloop_mtl.checkpoint import load_checkpoint, save_checkpoint
from emloop_mtl.data.batch import Batch
from emloop_mtl.errors import ConfigError
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.tasks import Action, Task
from emloop_mtl.types import Position

# What torch's own Adagrad does makes torch warn, once per process.
pytestmark = pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly disabled:UserWarning")

TAKES_SPARSE: list[dict[str, Any]] = [
    {"class": "sparse_adam", "lr": 0.1},
    {"class": "sgd", "lr": 0.5},
    {"class": "sgd", "lr": 0.5, "momentum": 0.9},
    # Its sums begin above 0, since else the sign of a gradient that is rounded to almost 0 would make a whole step.
    {"class": "adagrad", "lr": 0.5, "initial_accumulator_value": 0.1},
]


def make_model(optimizer: Mapping[str, Any], sparse: bool = True, head: bool = False, **update: Any) -> MultiTaskModel:
    torch.manual_seed(0)
    modules: dict[str, nn.Module] = {"words": nn.EmbeddingBag(6, 3, mode="mean", sparse=sparse)}
    flow = [Action("sums", "words", "x")]
    if head:
        modules["head"] = nn.Linear(3, 3)
        flow.append(Action("out", "head", "sums"))
    task = Task("y", modules=modules, flow=flow, label="y", loss="cross_entropy")
    return MultiTaskModel([task], optimizer=optimizer, update=update, device="cpu")


def make_batch(seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(6, (5, 2), generator=generator)
    return Batch({"x": x, "y": torch.randint(3, (5,), generator=generator)})


def weights_after(model: MultiTaskModel, seeds: range) -> torch.Tensor:
    for seed in seeds:
        model.run(make_batch(seed), train=True)
    return model.state_dict()["words.weight"]


UPDATES: list[dict[str, Any]] = [
    {},
    {"clip_norm": 0.2},
    {"accumulate": 2},
    {"accumulate": 2, "accumulate_reduction": "sum", "clip_norm": 0.2},
    {"accumulate": 2, "clip_norm": 0.1},
]


@pytest.mark.parametrize("optimizer", TAKES_SPARSE[1:])
@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("head", [False, True])
def test_it_equals_dense_gradients(optimizer: dict[str, Any], update: dict[str, Any], head: bool) -> None:
    sparse = weights_after(make_model(optimizer, True, head, **update), range(6))
    dense = weights_after(make_model(optimizer, False, head, **update), range(6))
    # Rows that occur twice are summed up in another order.
    torch.testing.assert_close(sparse, dense, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("update", UPDATES[:2])
def test_lbfgs_makes_them_dense(update: dict[str, Any]) -> None:
    optimizer = {"class": "lbfgs", "max_iter": 5}
    sparse, dense = (weights_after(make_model(optimizer, kind, **update), range(1)) for kind in (True, False))
    torch.testing.assert_close(sparse, dense, rtol=1e-5, atol=1e-6)  # another order of sums


def test_sparse_adam_clips_and_averages_as_by_hand() -> None:
    model = make_model({"class": "sparse_adam", "lr": 0.1}, clip_norm=0.1, accumulate=2)
    found = weights_after(model, range(4))
    words = make_model({"class": "sgd"}, sparse=False).network["words"]
    optimizer = torch.optim.SparseAdam(words.parameters(), lr=0.1)
    for start in (0, 2):
        total = torch.zeros(6, 3)
        for seed in (start, start + 1):
            batch = make_batch(seed)
            (gradient,) = torch.autograd.grad(
                nn.functional.cross_entropy(words(batch["x"]), batch["y"]), words.parameters()
            )
            total += gradient / 2
        total *= min(1.0, 0.1 / (float(total.norm()) + 1e-6))
        used = torch.unique(torch.cat([make_batch(seed)["x"].flatten() for seed in (start, start + 1)]))
        words.weight.grad = torch.sparse_coo_tensor(used[None], total[used], (6, 3), check_invariants=False)
        optimizer.step()
    torch.testing.assert_close(found, words.weight.detach(), rtol=1e-5, atol=1e-6)  # another order of sums


@pytest.mark.parametrize("stop", range(5))
@pytest.mark.parametrize("optimizer", TAKES_SPARSE)
def test_a_checkpoint_holds_open_gradients_and_state(tmp_path: Any, optimizer: dict[str, Any], stop: int) -> None:
    update = {"accumulate": 2, "clip_norm": 0.2}
    expected = weights_after(make_model(optimizer, **update), range(5))
    first, second = make_model(optimizer, **update), make_model(optimizer, **update)
    weights_after(first, range(stop))
    state = {"model": first.training_state_dict()}
    (path,) = save_checkpoint(tmp_path, ["latest"], first.state_dict(), state, Position())
    checkpoint = load_checkpoint(path)
    second.load_state_dict(checkpoint.weights)
    second.load_training_state_dict(checkpoint.state["model"])
    assert torch.equal(weights_after(second, range(stop, 5)), expected)


REFUSED = ["adam", "adamw", "adamax", "asgd", "adadelta", "rms_prop", "r_prop", "bert_adam", "nadam", "radam"]


@pytest.mark.parametrize("name", REFUSED)
def test_an_optimizer_that_takes_none_is_refused_before_the_training(name: str) -> None:
    with pytest.raises(ConfigError, match=r"'words.weight' has sparse gradients, and it takes none; use sparse_adam"):
        make_model({"class": name})


@pytest.mark.parametrize("name", ["sgd", "adagrad"])
def test_weight_decay_is_refused_before_the_training(name: str) -> None:
    with pytest.raises(ConfigError, match=r"'words.weight' has sparse gradients, .* weight_decay must be 0"):
        make_model({"class": name, "weight_decay": 0.1})


def test_weight_decay_goes_in_a_group_without_sparse_gradients() -> None:
    def groups(network: nn.ModuleDict) -> list[dict[str, Any]]:
        head = {"params": network["head"].parameters(), "weight_decay": 0.5}
        return [{"params": network["words"].parameters()}, head]

    model = make_model({"class": "sgd", "lr": 0.1, "parameters": groups}, head=True, clip_norm=0.5)
    without = make_model({"class": "sgd", "lr": 0.1}, head=True, clip_norm=0.5)
    for seed in range(3):
        model.run(make_batch(seed), train=True)
        without.run(make_batch(seed), train=True)
    assert model.state_dict()["head.weight"].norm() < without.state_dict()["head.weight"].norm()


def test_sparse_adam_refuses_dense_gradients_before_the_training() -> None:
    with pytest.raises(ConfigError, match=r"SparseAdam: 'head.weight' has dense gradients, .* use adam, or freeze"):
        make_model({"class": "sparse_adam"}, head=True)

    def freeze(network: nn.ModuleDict) -> list[dict[str, Any]]:
        network["head"].requires_grad_(False)
        return [{"params": network.parameters()}]

    model = make_model({"class": "sparse_adam", "parameters": freeze}, head=True)
    before = model.state_dict()["words.weight"].clone()
    assert not torch.equal(weights_after(model, range(1)), before)


class Own(nn.Module):
    """A module that does not tell which gradients it has."""

    def __init__(self, sparse: bool) -> None:
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(torch.zeros(6, 3))])
        self.sparse = sparse

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.embedding(x, self.weights[0], sparse=self.sparse).mean(1)


@pytest.mark.parametrize(
    ("name", "sparse", "message"),
    [
        ("sparse_adam", False, "SparseAdam: 'words.weights.0' has dense gradients, and it takes sparse ones only"),
        ("adam", True, "Adam: 'words.weights.0' has sparse gradients, and it takes none"),
        ("bert_adam", True, "BertAdam: 'words.weights.0' has sparse gradients, and it takes none"),
    ],
)
def test_gradients_of_modules_of_ones_own_are_explained_at_the_first_update(
    name: str, sparse: bool, message: str
) -> None:
    task = Task(
        "y", modules={"words": Own(sparse)}, flow=[Action("out", "words", "x")], label="y", loss="cross_entropy"
    )
    model = MultiTaskModel([task], optimizer=name, device="cpu")
    with pytest.raises(ConfigError, match=message) as caught:
        model.run(make_batch(0), train=True)
    assert caught.value.path == ("model", "optimizer")
    assert torch.equal(model.state_dict()["words.weights.0"], torch.zeros(6, 3))


def test_a_parameter_shared_with_a_dense_module_has_dense_gradients() -> None:
    words, head = nn.EmbeddingBag(6, 3, sparse=True), nn.Linear(3, 6, bias=False)
    head.weight = words.weight
    flow = [Action("sums", "words", "x"), Action("out", "head", "sums")]
    task = Task("y", modules={"words": words, "head": head}, flow=flow, label="y", loss="cross_entropy")
    model = MultiTaskModel([task], optimizer={"class": "adam", "lr": 0.1}, update={"clip_norm": 1.0}, device="cpu")
    before = words.weight.detach().clone()
    model.run(make_batch(0), train=True)
    assert not torch.equal(words.weight, before)


def test_an_error_of_another_kind_stays_as_it_is() -> None:
    class Failing(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        make_model({"class": Failing}, head=True).run(make_batch(0), train=True)
