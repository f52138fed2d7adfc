"""Small trainings by the command, whose runs other models are made of."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from emloop_mtl.cli import main
from emloop_mtl.config.yaml_text import write_yaml

DATA = """
import torch

from emloop_mtl import ColumnDataset, MultiTaskDataset, TaskLoader


class Points(MultiTaskDataset):
    '''Points of three kinds, and how far they lie from the origin.'''

    def __init__(self, named: bool = True, first: bool = False, rows: int = 20, **kwargs):
        super().__init__(**kwargs)
        self._named, self._first, self._rows = named, first, rows

    def loaders(self):
        for split, seed in (("train", 0), ("valid", 1)):
            x = torch.randn(self._rows, 4, generator=torch.Generator().manual_seed(seed))
            kind = x[:, :3].argmax(1)
            kind[::5] = -100
            size = x.norm(dim=1, keepdim=True)
            features = {"x": x}
            if self._first:
                features["kind/prob"] = torch.softmax(x[:, :3], 1)
            data = ColumnDataset("points", features=features, labels={"kind": kind, "size": size})
            tasks = {"kind": "kind", "size": "size"} if self._named else None
            yield TaskLoader(data, tasks, split=split, batch_size=8)
"""

KIND: dict[str, Any] = {
    "flow": [{"name": "kind_out", "module": "kind_head", "inputs": "x"}],
    "label": "kind",
    "loss": "cross_entropy",
    "missing_label": -100,
    "metrics": ["accuracy", "log_loss"],
}
SIZE: dict[str, Any] = {
    "flow": [{"name": "size_out", "module": "size_head", "inputs": "x"}],
    "label": "size",
    "loss": "mse_loss",
    "metrics": ["mean_squared_error"],
}
LINEAR = "torch.nn.Linear"


def config_of(seed: int = 0, **model: Any) -> dict[str, Any]:
    """Return the config of a training of both tasks, for one epoch."""
    heads = {
        "kind_head": {"class": LINEAR, "in_features": 4, "out_features": 3},
        "size_head": {"class": LINEAR, "in_features": 4, "out_features": 1},
    }
    tasks = {"kind": KIND, "size": SIZE}
    settings = {"optimizer": {"class": "sgd", "lr": 0.1}, "device": "cpu", "modules": heads, "tasks": tasks}
    return {
        "seed": seed,
        "dataset": {"class": "points.Points"},
        "model": {"class": "MultiTaskModel", **settings, **model},
        "main_loop": {"skip_zeroth_epoch": True},
        "hooks": [{"SaveLatest": {}}, {"StopAfter": {"epochs": 1}}],
    }


def composed_config(kind: str, models: list[str] | None, **options: Any) -> dict[str, Any]:
    """Return the config of a model that is made of runs."""
    listed = {} if models is None else {"models": models}
    dataset = options.pop("dataset", {})
    return {
        "dataset": {"class": "points.Points", **dataset},
        "model": {"class": kind, **listed, **options},
        "hooks": ["ScoreTasks"],
    }


def command(*words: object) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(main, [*map(str, words)], prog_name="emloop-mtl")


def train(folder: Path, name: str, config: dict[str, Any]) -> Path:
    """Train in the working folder and return the run ``log/<name>``."""
    (folder / f"{name}.yaml").write_text(write_yaml(config))
    done = command("train", f"{name}.yaml", "--output-dir", f"log/{name}")
    assert done.exit_code == 0, done.stderr
    return Path("log", name)


@contextmanager
def working_in(folder: Path) -> Iterator[Path]:
    """Write the data's module and forget, at the end, what was imported."""
    (folder / "points.py").write_text(DATA)
    path, modules = list(sys.path), set(sys.modules)
    yield folder
    sys.path[:] = path
    for name in {"points", "other"} - modules:
        sys.modules.pop(name, None)
