"""Learning-rate schedules: pure functions of the number of due steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

Schedule: TypeAlias = Callable[[float, int, int, float], float]
"""``(base, x, horizon, min_lr) -> learning rate`` after ``x`` of ``horizon`` due steps."""


def linear(base: float, x: int, horizon: int, min_lr: float) -> float:
    """Fall in a straight line from ``base`` to 0, which ``min_lr`` cuts off."""
    return base * (horizon - x) / horizon


def cosine_annealing(base: float, x: int, horizon: int, min_lr: float) -> float:
    """Fall along half a cosine from ``base`` to ``min_lr``.

    Source: Loshchilov and Hutter, SGDR: Stochastic Gradient Descent with Warm Restarts, 2017, equation 5.
    """
    return min_lr + (base - min_lr) * (1 + math.cos(math.pi * x / horizon)) / 2


SCHEDULES: Mapping[str, Schedule] = MappingProxyType({"linear": linear, "cosine_annealing": cosine_annealing})
"""The schedules by name."""
