"""A learning rate that falls by a factor."""

from __future__ import annotations

from typing import ClassVar

from .abstract_schedule import AbstractSchedule
from .checks import check_number


class Exponential(AbstractSchedule):
    """Multiply the rate with ``gamma`` at every due step.

    :param gamma: the factor
    :raise ConfigError: if it is negative
    """

    needs_length: ClassVar[bool] = False

    def __init__(self, gamma: float = 0.9) -> None:
        self._gamma = check_number("gamma", gamma)

    def rate(self, base: float, x: int, horizon: int) -> float:
        return base * self._gamma**x
