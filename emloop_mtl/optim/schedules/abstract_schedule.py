"""What every learning-rate schedule is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from .checks import Groups


class AbstractSchedule(ABC):
    """A learning-rate schedule: a function of the number of due steps since the warm-up.

    A class of one's own implements ``rate``, takes its options in its constructor, and is named by its dotted path.
    It remembers nothing of earlier calls, so that a resumed training cannot differ.

    .. code-block:: yaml

        hooks:
          - LRSchedule: {schedule: {class: my_schedules.SquareRoot, scale: 100}}
    """

    needs_length: ClassVar[bool] = True
    """Whether ``horizon`` is used; a run whose length is not known is then refused."""

    min_lr: float = 0.0
    """The lowest rate that is wanted after the warm-up. Lower ones are raised to it, so that ``rate`` may ignore it."""

    def prepare(self, groups: Groups) -> None:
        """Get to know the optimizer's parameter groups, before any rate is asked for, and again when they change.

        :param groups: their ``lr`` are the base rates
        :raise ConfigError: if the options do not fit them; its path begins with the option
        """

    @abstractmethod
    def rate(self, base: float, x: int, horizon: int) -> float:
        """Return the learning rate of a parameter group.

        :param base: its base rate, as the optimizer was given it
        :param x: due steps since the warm-up, 0 at first
        :param horizon: due steps from the warm-up to the end of the run, at least 1; 0 where that is not known
        """

    def rates(self, bases: Sequence[float], x: int, horizon: int) -> list[float]:
        """Return the learning rate of every parameter group."""
        return [self.rate(base, x, horizon) for base in bases]

    def momentums(self, x: int, horizon: int) -> list[float] | None:
        """Return the momentum of every parameter group, None where the schedule leaves them alone."""
        return None
