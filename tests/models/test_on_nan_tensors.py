"""Buffers and gradients of every kind where something is not finite."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from emloop_mtl.data.batch import Batch
from emloop_mtl.errors import NotFiniteError
from emloop_mtl.optim.update import Update

from .not_finite import make_batches, make_model, make_modules


class Exchanging(nn.Module):
    """A module that makes its buffer anew in each pass."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        self.mean = x.mean(dim=0)
        return x


def test_buffers_that_are_exchanged_are_put_back(place: str) -> None:
    modules = {**make_modules(), "trunk": nn.Sequential(Exchanging(), nn.Linear(3, 4))}
    model = make_model("skip", modules=modules)
    good, bad = make_batches(2, bad=[1])
    model.run(good, train=True)
    model.run(bad, train=True)
    assert torch.equal(model.state_dict()["trunk.0.mean"], good["x"].mean(dim=0))


class Adjacent(nn.Module):
    """A module with buffers that cannot be written to as others can, one of which is exchanged."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)
        self.register_buffer("graph", torch.eye(3).to_sparse())
        self.register_buffer("counts", torch.eye(3).to_sparse())
        with torch.inference_mode():
            self.register_buffer("fixed", torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        self.counts = self.counts + x.detach().mean() * self.graph
        result: Tensor = self.layer(torch.sparse.mm(self.graph, x.T).T)
        return result


def test_sparse_buffers_and_those_of_inference_are_put_back(place: str) -> None:
    module = Adjacent()
    model = make_model("skip", "sgd", {**make_modules(noise=False), "trunk": module})
    for batch in make_batches(3, [0, 2]):
        model.run(batch, train=True)
    model.settle()
    assert torch.equal(module.graph.to_dense(), torch.eye(3))
    assert torch.equal(module.fixed, torch.ones(3))
    expected = torch.eye(3) + make_batches(2)[1]["x"].mean() * torch.eye(3)
    assert torch.equal(module.counts.to_dense(), expected)


class OddBuffers(nn.Module):
    """A module with a cache that grows with the batches, one that is made late, one that comes and goes, and a view."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)
        self.register_buffer("cache", torch.zeros(2))
        self.register_buffer("late", None)
        self.register_buffer("gone", torch.ones(2))
        self.register_buffer("scale", torch.ones(1).expand(3))

    def forward(self, x: Tensor) -> Tensor:
        self.cache = x.detach().sum(1)
        mean = x.detach().mean(0)
        self.late = mean if self.late is None else self.late.lerp(mean, 0.5)
        self.gone = torch.ones(2) if self.gone is None else None
        result: Tensor = self.layer(x * self.scale)
        return result


def test_buffers_that_change_their_shape_or_are_made_late_are_put_back(place: str) -> None:
    trained = {}
    for bad in ([0, 2], []):
        module = OddBuffers()
        model = make_model("skip", "sgd", {**make_modules(noise=False), "trunk": module})
        for batch in make_batches(4, bad) if bad else make_batches(4)[1::2]:
            model.run(batch, train=True)
        model.settle()
        trained[len(bad)] = dict(module.named_buffers())
    assert trained[2].keys() == trained[0].keys() == {"cache", "late", "gone", "scale"}
    for name, buffer in trained[0].items():
        assert torch.equal(trained[2][name], buffer), name


def test_gradients_that_somebody_has_put_there_are_looked_at() -> None:
    weight = nn.Parameter(torch.ones(3))
    update = Update({"weight": weight}, {"class": "sgd", "lr": 0.1, "fused": False}, on_nan="error")
    for value in (1.0, math.nan):
        weight.grad = torch.tensor(value).expand(3)  # one number for all, which cannot be written to
        batch = Batch({"x": [0]})
        if math.isnan(value):
            with pytest.raises(NotFiniteError, match="the gradient of 'weight' is nan, the loss is finite: step 1"):
                update.look_at(batch, {"loss": torch.tensor(1.0)}, "")
        else:
            update.look_at(batch, {"loss": torch.tensor(1.0)}, "")


@pytest.mark.parametrize("dtype", [torch.complex64, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("sparse", [False, True])
def test_gradients_of_every_kind_are_looked_at(dtype: torch.dtype, sparse: bool, place: str) -> None:
    weight = nn.Parameter(torch.ones(4, 3, dtype=dtype))
    update = Update({"weight": weight}, {"class": "sgd", "lr": 0.1, "fused": False}, on_nan="error")
    for value in (1.0, math.inf):
        gradient = torch.full((4, 3), value, dtype=dtype)
        weight.grad = gradient.to_sparse(1) if sparse else gradient
        if value == 1.0:
            update.look_at(Batch({"x": [0]}), {"loss": torch.tensor(1.0, dtype=torch.float64)}, "")
            assert update.watch is not None
            update.watch.settle()
            continue
        with pytest.raises(NotFiniteError, match="the gradient of 'weight' is inf"):
            update.look_at(Batch({"x": [0]}), {"loss": torch.tensor(1.0)}, "")
            assert update.watch is not None
            update.watch.settle()


class Masked(nn.Module):
    """Attention's kind of mask, and a table in a type that torch cannot sum up."""

    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.full((3, 3), -math.inf).triu(1))
        self.register_buffer("table", torch.zeros(2).to(torch.float8_e4m3fn))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mask.exp().sum() * 0


@pytest.mark.parametrize("on_nan", ["error", "skip", "warn"])
def test_a_buffer_that_is_infinite_by_its_nature_is_in_order(on_nan: str, caplog: pytest.LogCaptureFixture) -> None:
    modules = {**make_modules(noise=False), "trunk": nn.Sequential(Masked(), nn.Linear(3, 4), nn.BatchNorm1d(4))}
    model = make_model(on_nan, modules=modules)
    good, bad = make_batches(2, bad=[1])
    model.run(good, train=True)
    assert model.training_state_dict()["watch"]["skipped"] == 0
    assert not caplog.records
    if on_nan == "error":
        with pytest.raises(NotFiniteError, match="so are the buffers 'trunk.2.running_mean', 'trunk.2.running_var';"):
            model.run(bad, train=True)
