"""A learning rate that falls in a straight line."""

from __future__ import annotations

from .abstract_schedule import AbstractSchedule


class Linear(AbstractSchedule):
    """Fall in a straight line from the base rate to 0, which ``min_lr`` cuts off."""

    def rate(self, base: float, x: int, horizon: int) -> float:
        return base * (horizon - x) / horizon
