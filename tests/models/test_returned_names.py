"""What a module returns, as far as its source tells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

from emloop_mtl.models.returned_names import returned_names


class Written(nn.Module):
    def forward(self, x: Any) -> Any:
        return {"a": x, "b": x}


class Alike(nn.Module):
    def forward(self, x: Any) -> Any:
        def inner() -> int:
            return 3

        if x is None:
            return {"a": inner()}
        return {"a": x}


class Grown(nn.Module):
    def forward(self, x: Any, y: Any = None) -> Any:
        told: dict[str, Any] = {"a": x}
        if y is not None:
            told["b"] = told["a"] + y
        return told


class Different(nn.Module):
    def forward(self, x: Any) -> Any:
        return {"a": x} if x is None else {"b": x}


class Computed(nn.Module):
    def forward(self, x: Any) -> Any:
        return {"a": x, **x}


class Given(nn.Module):
    def forward(self, x: Any) -> Any:
        return x


class Passed(nn.Module):
    def forward(self, x: Any) -> Any:
        told = {"a": x}
        self.extend(told)
        return told

    def extend(self, told: Any) -> None:
        told["b"] = 1


class Renamed(nn.Module):
    def forward(self, x: Any) -> Any:
        key = "a"
        told = {"b": x}
        told[key] = x
        return told


class Decorated(nn.Module):
    @staticmethod
    def change(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda self, x: [function(self, x)]

    @change
    def forward(self, x: Any) -> Any:
        return {"a": x}


def hooked() -> nn.Module:
    module = Written()
    module.register_forward_hook(lambda *_: 3)
    return module


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (Written(), ("a", "b")),
        (Alike(), ("a",)),
        (Grown(), ("a", "b")),
        (nn.Sequential(nn.ReLU(), Written()), ("a", "b")),
        (nn.Linear(2, 3), ()),
        (nn.Sequential(nn.Linear(2, 3), nn.ReLU()), ()),
        (nn.Sequential(), ()),
        (nn.LSTM(2, 3), ()),
        (Different(), None),
        (Computed(), None),
        (Given(), None),
        (Passed(), None),
        (Renamed(), None),
        (Decorated(), None),
        (hooked(), None),
        (nn.DataParallel(Written()), None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else str(value),
)
def test_what_a_module_returns_is_told_only_where_it_is_certain(
    module: nn.Module, names: tuple[str, ...] | None
) -> None:
    assert returned_names(module) == names
