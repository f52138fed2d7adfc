"""A learning rate that falls by a factor now and then."""

from __future__ import annotations

from typing import ClassVar

from .abstract_schedule import AbstractSchedule
from .checks import check_number, check_whole


class Step(AbstractSchedule):
    """Multiply the rate with ``gamma`` every ``step_size`` due steps.

    :param step_size: due steps from one change to the next
    :param gamma: the factor
    :raise ConfigError: for an option out of range
    """

    needs_length: ClassVar[bool] = False

    def __init__(self, step_size: int = 1, gamma: float = 0.1) -> None:
        self._step_size = check_whole("step_size", step_size, least=1)
        self._gamma = check_number("gamma", gamma)

    def rate(self, base: float, x: int, horizon: int) -> float:
        return base * self._gamma ** (x // self._step_size)
