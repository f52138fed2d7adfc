"""A folder with a small module of parts and room for configs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

PARTS = '''
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.data.abstract_dataset import AbstractDataset
from emloop_mtl.models.abstract_model import AbstractModel

BUILT: list[str] = []


class Numbers:
    """Counts from 0."""

    def __init__(self, size: int = 8, scale: float = 1.0, seed: int = -1, output_dir: str | None = None) -> None:
        BUILT.append("Numbers")
        if size < 1:
            raise ValueError("size must be\\n positive")
        self.size, self.scale, self.seed, self.output_dir = size, scale, seed, output_dir

    def train_stream(self) -> Any:
        for start in range(0, self.size, 4):
            yield {"x": list(range(start, start + 4))}


class Absent:
    def __init__(self) -> None:
        open("absent.csv")


class TextDataset(AbstractDataset):
    def __init__(self, config_str: str) -> None:
        self.text = config_str

    def train_stream(self) -> Any:
        yield {"x": [1]}


class Layer:
    def __init__(self, width: int, *more: int, bias: bool = True) -> None:
        self.width, self.more, self.bias = width, more, bias


class Part:
    def __init__(self, name: str, layer: Layer | None = None, loss: str | Callable[..., Any] = "mse") -> None:
        self.name, self.layer, self.loss = name, layer, loss


def double(value: float) -> float:
    return 2 * value


def make_parts(dataset: Any, loss: str = "mse") -> list[Part]:
    return [Part(f"of {dataset.size}", loss=loss)]


class Line(AbstractModel):
    config_sections: ClassVar[Mapping[str, str]] = {"optimizer": "optimizer"}
    config_items: ClassVar[Mapping[str, type]] = {"parts": Part}

    def __init__(
        self,
        width: int = 1,
        mode: Literal["fast", "exact"] = "exact",
        parts: Sequence[Part] | Mapping[str, Part] = (),
        layers: Mapping[str, Layer] | None = None,
        optimizer: Mapping[str, Any] | None = None,
        activation: Callable[..., Any] | None = None,
        sizes: Sequence[int] = (),
        file: Path | None = None,
        dataset: Any = None,
        log_dir: str | None = None,
        restore_from: str | None = "unset",
    ) -> None:
        BUILT.append("Line")
        self.given = dict(locals())

    @property
    def input_names(self) -> list[str]:
        return ["x"]

    @property
    def output_names(self) -> list[str]:
        return []

    def run(self, batch: Any, train: bool, stream: Any = None) -> dict[str, Any]:
        return {}


class NoModel:
    pass


class Count(AbstractHook):
    def __init__(self, every: int = 1, dataset: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.every, self.dataset = every, dataset


class Draw(AbstractHook):
    def __init__(self) -> None:
        super().__init__()
        import random

        import numpy
        import torch

        random.random(), numpy.random.random(), torch.rand(1)


class Greedy(AbstractHook):
    def __init__(self, **kwargs: Any) -> None:
        self.extra = kwargs.pop("extra", None)
        super().__init__(**kwargs)
        self.others = kwargs


class Complaining(AbstractHook):
    def __init__(self, every: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        from emloop_mtl.errors import ConfigError

        raise ConfigError("Complaining: every must be odd", ("every",))
'''


@pytest.fixture(autouse=True)
def path_and_modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Forget what a config's folder brought in; packages must stay, since no class may exist twice."""
    path, folder = list(sys.path), str(tmp_path_factory.getbasetemp())
    yield
    sys.path[:] = path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(folder):
            del sys.modules[name]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with ``parts.py``, so that positions in it are short."""
    (tmp_path / "parts.py").write_text(PARTS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def write(folder: Path) -> Callable[..., Path]:
    """Write ``config.yaml`` and return its relative path."""

    def write_config(text: str, name: str = "config.yaml") -> Path:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text).lstrip("\n"))
        return path

    return write_config
