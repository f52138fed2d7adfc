"""A learning rate that stays."""

from __future__ import annotations

from typing import ClassVar

from .abstract_schedule import AbstractSchedule


class Constant(AbstractSchedule):
    """Stay at the base rate; called ``none``."""

    needs_length: ClassVar[bool] = False

    def rate(self, base: float, x: int, horizon: int) -> float:
        return base
