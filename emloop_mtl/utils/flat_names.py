"""The names under which the numbers of an epoch stand in files and services."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from numbers import Real
from typing import Any

import numpy as np
import torch

from ..constants import ALL_STREAMS
from ..errors import ConfigError
from ..types import EpochData
from .flat_name import MODEL_AVERAGES, SCORE_PARTS, flat_name

__all__ = ["MODEL_AVERAGES", "POSITION", "SCORE_PARTS", "flat_name", "flatten", "stream_of_score"]

POSITION = ("epoch", "step", "samples")
"""What stands in front of the numbers in files, and so cannot be the name of one."""


def stream_of_score(name: str) -> str | None:
    """Return the stream of a score or average by its flat name, None for any other name."""
    parts = name.split("/", SCORE_PARTS)
    return parts[SCORE_PARTS - 1] if len(parts) > SCORE_PARTS else None


def flatten(epoch_data: EpochData) -> dict[str, float]:
    """Return all numbers of an epoch by their flat names, in order, leaving out what is no real number.

    Tensors on a device are fetched in one transfer per device and dtype.

    :param epoch_data: stream -> variable -> a number or ``{aggregation: number}``; numbers are Python's or
        numpy's, or tensors and arrays without dimensions
    :raise ConfigError: if two numbers have one flat name, or one is called like a part of the position
    """
    numbers: dict[str, float] = {}
    tensors: defaultdict[tuple[torch.device, torch.dtype], dict[str, torch.Tensor]] = defaultdict(dict)
    for name, value in _named_values(epoch_data):
        if name in POSITION:
            raise ConfigError(f"{name!r} is the position in logs; rename that variable of stream {ALL_STREAMS!r}")
        if name in numbers:
            raise ConfigError(f"two numbers of the epoch are both called {name!r} in logs; rename one of the variables")
        if isinstance(value, torch.Tensor):
            if value.dim() == 0 and not value.is_complex():
                numbers[name] = float("nan")  # keeps the place until the transfer
                tensors[value.device, value.dtype][name] = value.detach()
        elif isinstance(value, Real | np.bool_) or (
            isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in "biuf"
        ):
            numbers[name] = float(value)
    for group in tensors.values():
        numbers.update(zip(group, map(float, torch.stack(list(group.values())).tolist()), strict=True))
    return numbers


def _named_values(epoch_data: EpochData) -> Iterator[tuple[str, Any]]:
    for stream, variables in epoch_data.items():
        for variable, value in variables.items():
            if isinstance(value, Mapping):
                for aggregation, number in value.items():
                    yield flat_name(stream, variable, str(aggregation)), number
            else:
                yield flat_name(stream, variable), value
