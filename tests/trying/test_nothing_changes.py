"""A training comes to the same, bit for bit, whether its model was tried before or not."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import IterableDataset

from emloop_mtl import (
    AbstractDataset,
    AbstractModel,
    Action,
    BackboneHeadsModel,
    Head,
    JointLearning,
    MainLoop,
    MultiTaskModel,
    Task,
)
from emloop_mtl.hooks import StopAfter
from emloop_mtl.models.frozen_part import FrozenPart
from emloop_mtl.schedulers import Interleaved

from .trial import ROWS, SETTINGS, Counted, DatasetOf, loader, make_model, train


class Noisy(nn.Module):
    """Has batch statistics, counts its calls, and draws random numbers even where it is evaluated."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Dropout(0.2))
        self.register_buffer("called", torch.zeros(()))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.called += 1  # in its place
        noise = torch.randn(()) + random.random() + np.random.rand()
        out: Tensor = self.layers(x) + noise + 0.01 * self.calls + 0.01 * self.called
        return out


class Watchful(nn.Linear):
    """A head that collects a metric by itself, as AllenNLP's do."""

    def __init__(self) -> None:
        super().__init__(5, 3)
        self.seen = 0

    def forward(self, features: Tensor) -> Tensor:
        self.seen += len(features)
        return super().forward(features)

    def get_metrics(self, reset: bool = False) -> dict[str, float]:
        return {"seen": self.seen}


def seed_all() -> None:
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)


def draw_all() -> tuple[float, ...]:
    return float(torch.rand(())), random.random(), np.random.rand()


def flow_model() -> MultiTaskModel:
    torch.manual_seed(0)
    return make_model(trunk=Noisy(), head=Watchful())


def heads_model() -> MultiTaskModel:
    torch.manual_seed(0)
    head = Head(Watchful(), loss="cross_entropy", label="y", metrics=["accuracy"])
    mapping = {"kind": {"backbone": "features"}}
    return BackboneHeadsModel(Noisy(), {"kind": head}, arg_name_mapping=mapping, **SETTINGS)


def joint_model() -> MultiTaskModel:
    torch.manual_seed(0)
    head = Head(Watchful(), loss="cross_entropy", label="y", metrics=["accuracy"])
    mapping = {"kind": {"backbone": "features"}}
    return JointLearning(Noisy(), {"kind": head}, activations=["layers.0"], arg_name_mapping=mapping, **SETTINGS)


STYLES = {"flow": flow_model, "backbone and heads": heads_model, "joint learning": joint_model}


@pytest.mark.parametrize("style", STYLES)
def test_nothing_changes_by_it(style: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> tuple[MultiTaskModel, dict[str, Any], Any]:
        model = STYLES[style]()
        seed_all()
        loop = train(model, loader(), loader(split="valid"))
        return model, loop.epoch_data, draw_all()

    stood_in: list[Any] = []
    stand_in = MultiTaskModel.stand_in
    monkeypatch.setattr(
        MultiTaskModel, "stand_in", lambda self, **how: stood_in.append(twin := stand_in(self, **how)) or twin
    )
    model, scores, draws = run()
    monkeypatch.setattr(MultiTaskModel, "stand_in", AbstractModel.stand_in)
    other, other_scores, other_draws = run()
    assert draws == other_draws
    assert scores == other_scores
    weights = other.state_dict()
    assert weights.keys() == model.state_dict().keys()
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    # two streams with three batches each in the zeroth epoch and in two more; what was tried is counted elsewhere
    assert [counts(each) for each in (model, other)] == [(18, 18 * 8)] * 2
    evaluated, trained = stood_in
    with evaluated.in_place():
        assert counts(model) == (2, 2 * 8)
    with trained.in_place():
        assert counts(model) == (1, 8)
    if isinstance(model, BackboneHeadsModel):
        assert model.get_metrics() == {"kind/seen": 18 * 8}


def counts(model: MultiTaskModel) -> tuple[int, int]:
    modules = list(model.network.modules())
    calls = [module.calls for module in modules if isinstance(module, Noisy)]
    return sum(calls), sum(module.seen for module in modules if isinstance(module, Watchful))


class Written(AbstractDataset):
    """A stream without loaders that draws."""

    def train_stream(self) -> Iterator[dict[str, Any]]:
        for _ in range(3):
            yield {"x": torch.randn(8, 4), "y": torch.randint(3, (8,))}


class Walked(IterableDataset[Any]):
    """Rows that come in an order of their own, and draw."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        yield from (Counted()[index] for index in range(ROWS))


DATA: dict[str, Callable[[], Any]] = {
    "rows": lambda: DatasetOf(loader(Counted())),
    "rows of a process": lambda: DatasetOf(loader(Counted(), num_workers=1)),
    "rows of whom it is found out": lambda: DatasetOf(loader(Counted(), num_workers="auto")),
    "an iterable": lambda: DatasetOf(loader(Walked())),
    "an iterable of a process": lambda: DatasetOf(loader(Walked(), num_workers=1)),
    "mixed": lambda: DatasetOf(loader(Counted()), streams={"train": {"scheduler": Interleaved(6)}}),
    "without loaders": Written,
}


@pytest.mark.parametrize("buffer", [0, 2])
@pytest.mark.parametrize("kind", DATA)
def test_nothing_changes_whatever_is_read_for_it(kind: str, buffer: int) -> None:
    def run(try_batches: bool) -> tuple[dict[str, Any], Any]:
        model, data = flow_model(), DATA[kind]()
        seed_all()
        loop = MainLoop(model, data, [StopAfter(epochs=2)], buffer=buffer, try_batches=try_batches)
        loop.run_training()
        return model.state_dict(), draw_all()

    (weights, drawn), (others, drawn_too) = run(True), run(False)
    assert drawn == drawn_too
    assert all(torch.equal(value, others[name]) for name, value in weights.items())


class Shift(nn.Module):
    """Counts the words from 0, in the place where they are given."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        x -= 1
        out: Tensor = self.words(x).mean(1)
        return out


@pytest.mark.parametrize("of", ["rows", "a list", "arrays"])
def test_what_modules_write_to_their_inputs_is_not_seen_later(of: str) -> None:
    class Listed(AbstractDataset):
        def __init__(self) -> None:
            super().__init__()
            words: Any = torch.tensor([[1, 2, 5]] * 8)
            self.batches = [{"x": words.numpy() if of == "arrays" else words, "y": torch.arange(8) % 3}]

        def train_stream(self) -> list[dict[str, Any]]:
            return self.batches

    rows = [{"x": torch.tensor([1, 2, 5]), "y": row % 3} for row in range(ROWS)]
    data = DatasetOf(loader(rows)) if of == "rows" else Listed()
    loop = MainLoop(make_model(trunk=Shift()), data, [StopAfter(steps=1)], skip_zeroth_epoch=True)
    loop.run_training()
    assert loop.end == "finished"


@pytest.mark.parametrize("most", [False, True])
@pytest.mark.parametrize("style", STYLES)
def test_a_stand_in_has_equal_weights_and_shares_those_that_are_not_trained_where_they_are_most(
    style: str, most: bool
) -> None:
    model = STYLES[style]()
    parameters = list(model.network.parameters())
    frozen = [parameter.requires_grad_(False) for parameter in (parameters[:-1] if most else parameters[:1])]
    weights = dict(model.network.named_parameters())
    memory = {value.data_ptr() for value in model.network.state_dict().values()}
    twin = model.stand_in()
    assert twin is not None
    with twin.in_place():
        own = dict(model.network.named_parameters())
        shared = memory.intersection(value.data_ptr() for value in model.network.state_dict().values())
    assert own.keys() == weights.keys()
    assert all(torch.equal(parameter, weights[name]) for name, parameter in own.items())
    assert not any(parameter is weights[name] for name, parameter in own.items())
    assert shared == ({parameter.data_ptr() for parameter in frozen} if most else set())
    assert all(parameter is weights[name] for name, parameter in model.network.named_parameters())


class WithData(MultiTaskModel):
    """Keeps what nobody wants to have twice in memory."""

    data: Any


class Seeing(WithData):
    """Counts what it runs."""

    def run(self, batch: Any, train: bool, stream: Any = None) -> dict[str, Any]:
        self.data["seen"] += 1
        return super().run(batch, train, stream)


@pytest.mark.parametrize("kind", [WithData, Seeing])
def test_what_a_model_of_ones_own_keeps_is_copied_only_where_it_runs_batches_itself(kind: type[WithData]) -> None:
    model = make_model()
    model.__class__ = kind
    assert isinstance(model, WithData)
    data = model.data = {"seen": 0}
    twin = model.stand_in()
    assert twin is not None
    with twin.in_place():
        assert (model.data is data) is (kind is WithData)
    loop = train(model, loader(), skip_zeroth_epoch=True)
    assert data["seen"] == (0 if kind is WithData else loop.position.step)


class Always(MultiTaskModel):
    """Trains on whatever it sees."""

    def run(self, batch: Any, train: bool, stream: Any = None) -> dict[str, Any]:
        return super().run(batch, True, stream)


class Slower(MultiTaskModel):
    """Halves its learning rate."""

    def run(self, batch: Any, train: bool, stream: Any = None) -> dict[str, Any]:
        for group in self.optimizer.param_groups:
            group["lr"] *= 0.9
        return super().run(batch, train, stream)


class Grows(MultiTaskModel):
    """Gets another task in its first batch."""

    def run(self, batch: Any, train: bool, stream: Any = None) -> dict[str, Any]:
        if "other" not in self.tasks:
            flow = [Action("features", "trunk", "x"), Action("other_logits", "other_head", "features")]
            modules = {"other_head": nn.Linear(5, 3)}
            self.add_tasks(Task("other", modules, flow, label="y", loss="cross_entropy"))
        return super().run(batch, train, stream)


class Freezes(MultiTaskModel):
    """Trains its trunk for one batch, and again from the fourth on."""

    part: FrozenPart | None = None
    batches = 0

    def run(self, batch: Any, train: bool, stream: Any = None) -> dict[str, Any]:
        outputs = super().run(batch, train, stream)
        self.batches += train
        if self.part is None:
            self.part = FrozenPart(modules=["trunk"], eval_mode=True)
            self.freeze(self.part)
        if self.batches == 3:
            self.unfreeze(self.part)
        return outputs


class Balances(MultiTaskModel):
    """Has losses of its own, which remember what they were."""

    def __init__(self) -> None:
        self.means: dict[str, Any] = {}
        self.norm = nn.BatchNorm1d(3)
        flow = [Action("features", "trunk", "x"), Action("logits", "head", "features")]
        modules = {"trunk": Noisy(), "head": nn.Linear(5, 3)}
        super().__init__(Task("kind", modules, flow, label="y", loss=self.loss, metrics=["accuracy"]), **SETTINGS)

    def loss(self, outputs: Any, label: Tensor) -> Tensor:
        value = nn.functional.cross_entropy(self.norm(outputs["logits"]), label)
        self.means["kind"] = 0.9 * self.means.get("kind", 1.0) + 0.1 * value.detach()
        return value / self.means["kind"]


@pytest.mark.parametrize("kind", [Slower, Grows])
def test_what_asks_for_the_optimizer_is_left_to_the_first_batch(
    kind: type[MultiTaskModel], caplog: pytest.LogCaptureFixture
) -> None:
    model = make_model()
    model.__class__ = kind
    with caplog.at_level(logging.INFO):
        MainLoop(model, DatasetOf(loader()), [StopAfter(epochs=1)]).try_batches()
    told = {Slower: "optimizer", Grows: "renew"}[kind]
    assert f"in the first batch: a batch cannot be tried where 'update.{told}' is asked for" in caplog.text


OWN_MODELS: list[type[MultiTaskModel]] = [Always, Slower, Grows, Freezes, Balances]


@pytest.mark.parametrize("skips", [True, False])
@pytest.mark.parametrize("kind", OWN_MODELS)
def test_nothing_changes_whatever_a_model_of_ones_own_does(kind: type[MultiTaskModel], skips: bool) -> None:
    def run(try_batches: bool) -> tuple[dict[str, Any], Any, Any]:
        torch.manual_seed(0)
        if kind is Balances:
            model: MultiTaskModel = Balances()
        else:
            model = make_model(trunk=Noisy(), update={"accumulate": 2})
            model.__class__ = kind
        seed_all()
        how: dict[str, Any] = {"try_batches": try_batches, "skip_zeroth_epoch": skips}
        MainLoop(model, DatasetOf(loader()), [StopAfter(epochs=2)], **how).run_training()
        rates = [group["lr"] for group in model.optimizer.param_groups]
        return dict(model.state_dict()), (model.update.state_dict()["step"], rates), draw_all()

    (weights, *others), (untried, *as_untried) = run(True), run(False)
    assert others == as_untried
    assert weights.keys() == untried.keys()
    assert all(torch.equal(value, untried[name]) for name, value in weights.items())
