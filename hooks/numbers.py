"""What several hooks do with the numbers of an epoch or a batch."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import islice
from numbers import Real

import numpy as np
import torch

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.types import EpochNumber

log = logging.getLogger(__name__)


def fetch_numbers(values: Iterable[object]) -> list[float | None]:
    """Return each value as a number, None where it is none, in one transfer per device and dtype.

    :param values: numbers of Python or numpy, tensors and arrays without dimensions, or anything else
    """
    numbers: list[float | None] = []
    tensors: defaultdict[tuple[torch.device, torch.dtype], list[tuple[int, torch.Tensor]]] = defaultdict(list)
    for index, value in enumerate(values):
        if isinstance(value, torch.Tensor):
            if value.dim() == 0 and not value.is_complex():
                tensors[value.device, value.dtype].append((index, value.detach()))
            numbers.append(None)  # keeps the place until the transfer
        elif isinstance(value, Real | np.bool_) or (
            isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in "biuf"
        ):
            numbers.append(float(value))
        else:
            numbers.append(None)
    for group in tensors.values():
        fetched = torch.stack([tensor for _, tensor in group]).tolist()
        for (index, _), number in zip(group, fetched, strict=True):
            numbers[index] = float(number)
    return numbers


def fetch_rows(rows: Sequence[torch.Tensor]) -> list[list[float]]:
    """Return the numbers of each vector, in one transfer per device and dtype."""
    groups: defaultdict[tuple[torch.device, torch.dtype], list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        groups[row.device, row.dtype].append(index)
    found: dict[int, list[float]] = {}
    for group in groups.values():
        numbers = iter(torch.cat([rows[index] for index in group]).tolist())
        found |= {index: list(islice(numbers, len(rows[index]))) for index in group}
    return [found[index] for index in range(len(rows))]


def show_number(number: float) -> str:
    """Return a number as people read it at a glance: four decimals, or three and an exponent where those say little."""
    if number == 0 or not math.isfinite(number) or 1e-3 <= abs(number) < 1e6:
        return f"{number:.4f}"
    return f"{number:.3e}"


def warn_of_missed_numbers(hook: AbstractHook) -> None:
    """Warn if a hook that reads all numbers of an epoch stands before one that provides some."""
    hooks = list(hook.main_loop.hooks)
    for later in hooks[hooks.index(hook) + 1 :]:
        if any(isinstance(offer, EpochNumber) for offer in later.provides() or ()):
            log.warning("%s misses the numbers of %s: list it after %s", hook.name, later.name, later.name)


def is_loss(variable: str) -> bool:
    """Return whether a variable is a loss by its name: ``loss``, ``<task>/loss``, ``<task>/<data>/loss``."""
    return variable == "loss" or variable.endswith("/loss")


def any_numbers_of(hook: AbstractHook, variables: Iterable[str]) -> list[EpochNumber]:
    """Return what a hook ``requires`` that reads variables with whatever aggregations they have."""
    found: dict[str, EpochNumber] = {}
    for offer in (offer for other in hook.main_loop.hooks for offer in other.provides() or ()):
        if isinstance(offer, EpochNumber):
            found.setdefault(offer.variable, EpochNumber(offer.variable, None, offer.aggregation))
    return [found.get(variable, EpochNumber(variable)) for variable in variables]
