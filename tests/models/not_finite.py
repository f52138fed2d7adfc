"""Models whose batches can be bad, and batches for them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from emloop_mtl.data.batch import Batch
from emloop_mtl.models.multi_task_model import MultiTaskModel

from ..two_tasks import make_tasks


class Root(nn.Module):
    """The square root, whose gradient at 0 is infinite although its value is finite."""

    def forward(self, x: Tensor) -> Tensor:
        return x.abs().sqrt()


def zeros(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def make_modules(noise: bool = True) -> dict[str, nn.Module]:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Linear(3, 4), nn.BatchNorm1d(4)] if noise else [nn.Linear(3, 4)]
    return {"trunk": nn.Sequential(*layers, nn.Tanh()), "a_head": nn.Linear(4, 2), "b_head": nn.Linear(4, 2)}


def make_model(
    on_nan: str | None,
    optimizer: Any = "adam",
    modules: Mapping[str, nn.Module] | None = None,
    update: Mapping[str, Any] | None = None,
    **options: Any,
) -> MultiTaskModel:
    settings = {"on_nan": on_nan, **(update or {})}
    options = {"device": "cpu", **options}
    return MultiTaskModel(make_tasks(), modules or make_modules(), optimizer=optimizer, update=settings, **options)


def make_batches(number: int, bad: Iterable[int] = (), value: float = math.nan, **attributes: Any) -> list[Batch]:
    """Make batches with labels of both tasks; ``bad`` ones have a source that is not finite."""
    generator = torch.Generator().manual_seed(0)
    batches = []
    for index in range(number):
        x = torch.randn(8, 3, generator=generator)
        if index in bad:
            x[5, 1] = value
        labels = {name: torch.randint(2, (8,), generator=generator) for name in "ab"}
        batches.append(Batch({"x": x, **labels}, tasks={"a": "a", "b": "b"}, **attributes))
        batches[-1].number = index
    return batches


def equal(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor):
        return torch.equal(first, second)
    if isinstance(first, Mapping):
        return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)
    return bool(first == second)
