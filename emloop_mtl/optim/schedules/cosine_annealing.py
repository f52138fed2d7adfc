"""A learning rate that falls along half a cosine."""

from __future__ import annotations

import math

from .abstract_schedule import AbstractSchedule


class CosineAnnealing(AbstractSchedule):
    """Fall along half a cosine from the base rate to ``min_lr``.

    Source: Loshchilov and Hutter, SGDR: Stochastic Gradient Descent with Warm Restarts, 2017, equation 5.
    """

    def rate(self, base: float, x: int, horizon: int) -> float:
        return self.min_lr + (base - self.min_lr) * (1 + math.cos(math.pi * x / horizon)) / 2
