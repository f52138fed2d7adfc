"""What tests of checkpoints share: small ones, and what they are recognized by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from emloop_mtl.checkpoint import newest_checkpoint, save_checkpoint
from emloop_mtl.types import Position

START = Position()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def save(folder: Path, value: float = 0.0, tags: tuple[str, ...] = ("latest",), step: int = 0, **options: Any) -> Path:
    weights = {"weight": torch.full((50,), value), "bias": torch.full((3,), value)}
    paths = save_checkpoint(
        folder, tags, weights, {"value": value, "tensor": torch.full((9,), value)}, Position(step=step), **options
    )
    return paths[0]


def value_of(folder: Path, tag: str | None = None) -> float:
    found = newest_checkpoint(folder, tag)
    assert torch.equal(found.weights["weight"], torch.full((50,), found.state["value"]))
    return float(found.state["value"])
