"""A learning rate that falls by a factor at given moments."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import ClassVar

from ...errors import ConfigError
from .abstract_schedule import AbstractSchedule
from .checks import check_number, check_whole


class MultiStep(AbstractSchedule):
    """Multiply the rate with ``gamma`` at every milestone; one that is listed twice counts twice.

    :param milestones: numbers of due steps, in any order
    :param gamma: the factor
    :raise ConfigError: for an option out of range
    """

    needs_length: ClassVar[bool] = False

    def __init__(self, milestones: Sequence[int] = (1000,), gamma: float = 0.1) -> None:
        if not isinstance(milestones, list | tuple) or not milestones:
            text = f"milestones must be a list of numbers of steps, such as [1000, 2000], not {milestones!r}"
            raise ConfigError(text, ("milestones",))
        self._milestones = sorted(check_whole("milestones", milestone, least=0) for milestone in milestones)
        self._gamma = check_number("gamma", gamma)

    def rate(self, base: float, x: int, horizon: int) -> float:
        return base * self._gamma ** bisect_right(self._milestones, x)
