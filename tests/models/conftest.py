"""Models of many tasks that can be run as one, and batches for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from emloop_mtl.data.batch import Batch
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.optim import finite_watch
from emloop_mtl.tasks import Action, Task

MakeHeads = Callable[..., MultiTaskModel]
MakeBatch = Callable[..., Batch]


@pytest.fixture
def make_heads() -> MakeHeads:
    """Make a model of a trunk and equal heads ``t0``, ``t1``, …, with the same weights each time, in float64."""

    def make(tasks: int = 4, optimizer: Any = "adam", hidden: bool = False, **options: Any) -> MultiTaskModel:
        torch.manual_seed(0)
        modules: dict[str, nn.Module] = {"trunk": nn.Sequential(nn.Linear(5, 6), nn.Tanh())}
        for name in names(tasks):
            layers = [nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)] if hidden else [nn.Linear(6, 3)]
            modules[f"{name}_head"] = nn.Sequential(*layers)
        features = Action("features", "trunk", "x")
        listed = [
            Task(
                name,
                flow=[features, Action(f"{name}_out", f"{name}_head", "features")],
                label=name,
                loss="cross_entropy",
                weight=1 + place / 2,
                missing_label=-100,
                action_outputs=f"{name}_out",
            )
            for place, name in enumerate(names(tasks))
        ]
        settings = {"class": optimizer, "lr": 0.01} if isinstance(optimizer, str) else optimizer
        for module in modules.values():
            module.double()
        return MultiTaskModel(listed, modules, optimizer=settings, **{"device": "cpu", **options})

    return make


@pytest.fixture
def make_batch() -> MakeBatch:
    """Make a batch for tasks of ``make_heads``, by their number or their names."""

    def make(tasks: int | Sequence[str] = 4, seed: int = 0, missing: float = 0.0, **attributes: Any) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        chosen = names(tasks) if isinstance(tasks, int) else tasks
        batch: dict[str, torch.Tensor] = {"x": torch.randn(7, 5, generator=generator, dtype=torch.float64)}
        for name in chosen:
            label = torch.randint(3, (7,), generator=generator)
            lacks = torch.rand(7, generator=generator) < missing
            batch[name] = label.masked_fill(lacks, -100)
        return Batch(batch, tasks={name: name for name in chosen}, **attributes)

    return make


def names(tasks: int) -> list[str]:
    return [f"t{number}" for number in range(tasks)]


@pytest.fixture(params=["host", "device"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where batches are looked at: as on the CPU, or as on a device that nobody waits for."""
    if request.param == "device":
        monkeypatch.setattr(finite_watch, "answers_at_once", lambda device: False)
    return str(request.param)


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    """Begin and end with nothing compiled: limits and counters are those of the process."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()  # which a reset leaves alone
    yield
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()  # which a reset leaves alone
