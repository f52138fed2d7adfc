"""Weights of loaders by their names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

from ..errors import ConfigError, nearest
from ..utils.shown import shown
from .abstract_task_scheduler import Loader


def check_weights(weights: Any, what: str) -> dict[str, float]:
    """Return weights as numbers by loader name.

    :param weights: a mapping of loader names to numbers >= 0
    :param what: what the message begins with
    :raise ConfigError: if it is none, led to by the name
    """
    try:
        pairs = list(weights.items())
    except AttributeError:
        raise ConfigError(f"{what} must map loader names to numbers, not be {weights!r}") from None
    for name, weight in pairs:
        if not _is_weight(weight):
            text = f"the weight of loader {name!r} must be a finite number >= 0, not {shown(weight)}"
            raise ConfigError(f"{what}: {text}", (name,))
    return {str(name): float(weight) for name, weight in pairs}


def _is_weight(weight: Any) -> bool:
    if isinstance(weight, bool) or not isinstance(weight, Real):
        return False
    try:
        return 0 <= float(weight) < math.inf
    except OverflowError:
        return False


def match_weights(weights: dict[str, float], loaders: Sequence[Loader], what: str) -> list[float]:
    """Return the weight of each loader.

    :raise ConfigError: if one has none, if there is no loader of a name, or if all are 0
    """
    names = [loader.name for loader in loaders]
    for name in sorted(weights.keys() - set(names)):
        raise ConfigError(f"{what}: there is no loader {name!r}{nearest(name, names)}", (name,))
    for name in names:
        if name not in weights:
            raise ConfigError(f"{what}: loader {name!r} has no weight; give it one, 0 to leave it out")
    found = [weights[name] for name in names]
    if not any(found):
        raise ConfigError(f"{what}: all weights are 0; give a loader a greater one")
    return found
