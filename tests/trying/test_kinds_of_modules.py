"""Modules, losses and data of all kinds come to the same, bit for bit, whether they were tried before or not."""

from __future__ import annotations

import random
import threading
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune
from torch.utils.data import Dataset

from emloop_mtl import (
    AbstractModel,
    Action,
    ColumnDataset,
    MainLoop,
    MultiTaskModel,
    Task,
    TaskLoader,
)
from emloop_mtl.hooks import Evaluate, ScoreTasks, StopAfter

from .trial import ROWS, DatasetOf

SETTINGS: Any = {"device": "cpu", "optimizer": {"class": "adam", "lr": 0.1}}


class Normed(nn.Linear):
    """Writes to its weights whenever it runs."""

    def forward(self, x: Tensor) -> Tensor:
        self.weight.data = self.weight.data / self.weight.data.norm(dim=1, keepdim=True) * 0.7
        return super().forward(x)


class Scaled(nn.Linear):
    """Writes to its weights where they are."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.weight.mul_(0.9)
        return super().forward(x)


class Looked(nn.Module):
    """Shortens the rows that it looks up."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(60, 5, max_norm=0.5)

    def forward(self, x: Tensor) -> Tensor:
        rows: Tensor = self.table(x.abs().sum(1).long().clamp(max=59))
        return rows


class Shaken(nn.Linear):
    """Draws random numbers from a generator of its own."""

    def __init__(self, generator: Any) -> None:
        super().__init__(4, 5)
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        return out + torch.as_tensor(self.generator.normal(size=5)).float()


class Recurrent(nn.Module):
    """Reads the columns of a row one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.LSTM(1, 5, num_layers=2, dropout=0.1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        read: Tensor = self.cells(x[..., None])[0][:, -1]
        return read


class Gathering(nn.Linear):
    """Gathers what it sees in what is neither parameter nor buffer."""

    def __init__(self) -> None:
        super().__init__(4, 5)
        self.bank = torch.zeros(4)
        self.seen = {"rows": 0}

    def forward(self, x: Tensor) -> Tensor:
        self.bank += x.sum(0)
        self.seen["rows"] += len(x)
        return super().forward(x + self.bank / self.seen["rows"])


class Noted(nn.Linear):
    """Has noted something on its weights."""

    def __init__(self) -> None:
        super().__init__(4, 5)
        self.weight.scale = 0.5  # type: ignore[attr-defined]

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.weight.scale  # type: ignore[attr-defined,no-any-return]


class Linked(nn.Module):
    """Is held by functions and references, and cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.layer = nn.Linear(4, 5)
        self.steps = [lambda x: self.norm(x), lambda x: self.layer(x)]
        self.itself = weakref.ref(self)
        self.lock = threading.Lock()
        self.seen = {"rows": 0}
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        with self.lock:
            for step in self.steps:
                x = step(x)
            module = self.itself()
            assert module is self
            self.seen["rows"] += len(x)
            self.calls += 1
            return x * (1 + self.calls / self.seen["rows"])


class Meter:
    """Counts, for several threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.rows = 0

    def add(self, rows: int) -> float:
        with self.lock:
            self.rows += rows
            return 1 + 1 / self.rows

    def loss(self, outputs: Mapping[str, Any], label: Tensor) -> Tensor:
        return functional.cross_entropy(outputs["logits"], label) * self.add(len(label))

    __call__ = loss


class Measured(nn.Linear):
    """Has much that cannot be copied beside what changes."""

    def __init__(self) -> None:
        super().__init__(4, 5)
        self.meter = Meter()
        self.state = {"lock": threading.Lock(), "bank": torch.zeros(4), "layers": [nn.BatchNorm1d(4)]}
        self.steps = [lambda x: self.state["layers"][0](x)]
        self.draw = random.Random(1).random
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.state["bank"] += x.mean(0)
        for step in self.steps:
            x = step(x)
        factor = self.meter.add(len(x)) + self.draw() + self.calls
        return super().forward(x + self.state["bank"]) * factor


class Taught(nn.Module):
    """Adds what a teacher says that is not trained, but follows the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.teacher = nn.Linear(4, 5), nn.Linear(4, 5).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            for own, taught in zip(self.layer.parameters(), self.teacher.parameters(), strict=True):
                taught.mul_(0.9).add_(own, alpha=0.1)
        both: Tensor = self.layer(x) + self.teacher(x)
        return both


def beside_a_table() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 300).requires_grad_(False), nn.Linear(300, 4).requires_grad_(False), Taught())


class Moved(nn.Module):
    """Is mostly not trained, and has its weights exchanged."""

    def __init__(self) -> None:
        super().__init__()
        self.large, self.layer = nn.Linear(4, 40).requires_grad_(False), nn.Linear(40, 5)
        self.layer.weight.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        self.large.weight.data = self.large.weight.data * 0.9
        out: Tensor = self.layer(self.large(x))
        return out


class Replaced(nn.Linear):
    """Has exchanged what it does, and counts it."""

    def __init__(self) -> None:
        super().__init__(4, 5)
        self.calls = 0
        forward = self.forward

        def counted(x: Tensor) -> Tensor:
            self.calls += 1
            return forward(x) * (1 + self.calls / 100)

        self.forward = counted  # type: ignore[method-assign]


def hooked() -> nn.Module:
    """Return modules with hooks that change what they and others compute, and that come and go."""
    first, norm, last = nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 5)
    first.register_buffer("calls", torch.zeros(()))

    def count(module: nn.Module, given: Any) -> None:
        module.calls += 1  # type: ignore[operator]
        last.bias.data.mul_(0.9)

    def scale(module: nn.Module, given: Any, told: Tensor) -> Tensor:
        out: Tensor = norm(told) * (1 + first.calls / 100)  # type: ignore[operator]
        return out

    def once(module: nn.Module, given: Any) -> Any:
        handle.remove()
        return (given[0] * 100,)

    first.register_forward_pre_hook(count)
    first.register_forward_hook(scale)
    handle = last.register_forward_pre_hook(once)
    last.register_full_backward_hook(lambda module, into, out: (into[0] * 0.5,))
    return nn.Sequential(first, last, norm)


def pruned() -> nn.Module:
    layer = nn.Linear(4, 5)
    prune.l1_unstructured(layer, "weight", amount=0.5)
    prune.random_unstructured(layer, "bias", amount=0.2)
    return layer


def scripted() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), torch.jit.script(nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 5))))


def made_and_frozen() -> nn.Module:
    large, made = nn.Linear(4, 40), nn.LazyLinear(5)
    for parameter in (*large.parameters(), *made.parameters()):
        parameter.requires_grad = False
    return nn.Sequential(large, made)


def tied() -> nn.Module:
    one, other = nn.Linear(4, 5), nn.Linear(4, 5)
    other.weight = one.weight
    return nn.Sequential(one, nn.ReLU(), nn.Linear(5, 4), other)


TRUNKS: dict[str, Callable[[], nn.Module]] = {
    "weights that are set anew": partial(Normed, 4, 5),
    "weights that are written to": partial(Scaled, 4, 5),
    "an embedding with max_norm": Looked,
    "a generator": lambda: Shaken(np.random.default_rng(1)),
    "an old generator": lambda: Shaken(np.random.RandomState(1)),
    "a recurrent network": Recurrent,
    "attention": lambda: nn.Sequential(nn.Unflatten(1, (1, 4)), _encoder(), nn.Flatten(), nn.Linear(4, 5)),
    "what is no buffer": Gathering,
    "notes on weights": Noted,
    "weight norm": lambda: parametrizations.weight_norm(nn.Linear(4, 5)),
    "spectral norm": lambda: parametrizations.spectral_norm(nn.Linear(4, 5)),
    "tied weights": tied,
    "old weight norm": lambda: nn.utils.weight_norm(nn.Linear(4, 5)),
    "old spectral norm": lambda: nn.utils.spectral_norm(nn.Linear(4, 5)),
    "pruned weights": pruned,
    "hooks": hooked,
    "what is partly a lock": Measured,
    "a teacher": Taught,
    "a teacher beside what is large": beside_a_table,
    "weights that are mostly not trained": Moved,
    "what is made in the first batch, and not trained": made_and_frozen,
    "what is made in the first batch": lambda: nn.Sequential(nn.LazyLinear(6), nn.LazyBatchNorm1d(), nn.Linear(6, 5)),
    "what cannot be copied": Linked,
    "another forward": Replaced,
    "torch.jit": scripted,
    "compiled": lambda: torch.compile(nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 5)), backend="eager"),
}


def _encoder() -> nn.Module:
    return nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)


class Counting(nn.Module):
    """A loss that grows with each call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, output: Tensor, label: Tensor) -> Tensor:
        self.calls += 1
        self.seen += 1
        return functional.cross_entropy(output, label) * (1 + self.calls / 100 + self.seen / 100)

    def of(self, outputs: Mapping[str, Any], label: Tensor) -> Tensor:
        return self(outputs["logits"], label)  # type: ignore[no-any-return]


LOSSES: dict[str, Callable[[], Any]] = {
    "a module": Counting,
    "a method": lambda: Counting().of,
    "a method of an object": lambda: Meter().loss,
    "an object with a lock": Meter,
    "a part of a method": lambda: partial(Meter().loss),
}


class Drawing(Dataset[Any]):
    """Rows that are augmented with random numbers."""

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, index: int) -> dict[str, Any]:
        noise = random.random() + np.random.rand() + float(torch.rand(()))
        return {"x": torch.full((4,), float(index % 3)) + noise, "y": index % 3}


def columns(scale: float = 1.0) -> ColumnDataset:
    x = scale * torch.randn(ROWS, 4, generator=torch.Generator().manual_seed(0))
    return ColumnDataset("rows", {"x": x}, {"y": torch.arange(ROWS) % 3})


def comes_to(
    trunk: Callable[[], nn.Module] = lambda: nn.Linear(4, 5),
    loss: Callable[[], Any] = lambda: "cross_entropy",
    data: Callable[[], Dataset[Any]] = columns,
    deterministic: bool | None = None,
) -> tuple[dict[str, Any], Any, Any]:
    """Return weights, scores and further random numbers of a training that evaluates less than there is to try."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    flow = [Action("features", "trunk", "x"), Action("logits", "head", "features")]
    task = Task("kind", {"trunk": trunk(), "head": nn.Linear(5, 3)}, flow, "y", loss())
    model, rows = MultiTaskModel(task, **SETTINGS), data()
    loaders = [
        TaskLoader(rows, {"kind": "y"}, split, batch_size=8, deterministic=deterministic)
        for split in ("train", "valid")
    ]
    loaders.append(TaskLoader(columns(scale=9.0), {"kind": "y"}, "test", batch_size=8))
    loop = MainLoop(
        model, DatasetOf(*loaders), [Evaluate(["valid"]), ScoreTasks(), StopAfter(epochs=2)], skip_zeroth_epoch=True
    )
    loop.run_training()
    scores = {stream: dict(numbers) for stream, numbers in loop.epoch_data.items()}
    return dict(model.state_dict()), scores, (float(torch.rand(())), random.random(), np.random.rand())


def assert_comes_to_the_same(monkeypatch: pytest.MonkeyPatch, **parts: Any) -> None:
    stood_in: list[Any] = []
    stand_in = MultiTaskModel.stand_in
    monkeypatch.setattr(
        MultiTaskModel, "stand_in", lambda self, **how: stood_in.append(twin := stand_in(self, **how)) or twin
    )
    weights, *others = comes_to(**parts)
    assert len(stood_in) == 2
    assert None not in stood_in
    monkeypatch.setattr(MultiTaskModel, "stand_in", AbstractModel.stand_in)
    untried, *as_untried = comes_to(**parts)
    assert others == as_untried
    assert weights.keys() == untried.keys()
    assert [name for name, value in weights.items() if not torch.equal(value, untried[name])] == []


@pytest.mark.filterwarnings("ignore:`torch.* is deprecated")
@pytest.mark.parametrize("kind", TRUNKS)
def test_modules(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_comes_to_the_same(monkeypatch, trunk=TRUNKS[kind])


@pytest.mark.parametrize("kind", LOSSES)
def test_losses(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_comes_to_the_same(monkeypatch, loss=LOSSES[kind])


@pytest.mark.parametrize("deterministic", [None, True])
def test_data(deterministic: bool | None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_comes_to_the_same(monkeypatch, data=Drawing, deterministic=deterministic)
