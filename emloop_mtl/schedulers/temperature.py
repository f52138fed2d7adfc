"""Loaders with shares by a power of their size."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..errors import ConfigError
from ..types import State
from .abstract_task_scheduler import Loader
from .drawn_scheduler import DrawnScheduler


class Temperature(DrawnScheduler):
    """Take batches of each loader in proportion to a power of its size, in random order.

    It lies between shares by size, alpha 1, and equal ones, alpha 0: small loaders come more often than their size
    says, large ones less. ``alpha`` is 1 / T for what is known as a temperature T, 5 in Arivazhagan et al. 2019,
    "Massively Multilingual Neural Machine Translation in the Wild". The size of a loader is its number of batches,
    or its ``n_batches``.

    :param alpha: the power, 0 or more
    :param batches_per_pass: batches of one pass; None for as many as the loaders have together
    :raise ConfigError: if ``alpha`` is less than 0 or no number

    .. code-block:: yaml

        class: Temperature
        alpha: 0.2
    """

    def __init__(self, alpha: float, batches_per_pass: int | None = None) -> None:
        super().__init__(batches_per_pass)
        self._alpha = check_alpha(type(self).__name__, "alpha", alpha)

    def settings(self) -> dict[str, State]:
        return {**super().settings(), "alpha": self._alpha}

    def weights(self, loaders: Sequence[Loader], pass_number: int) -> Sequence[float]:
        return powers_of(self.sizes(loaders), self._alpha)


def powers_of(sizes: Sequence[int], alpha: float) -> list[float]:
    """Return the power of every size, 0 of an empty loader; divided by the largest size, so that none overflows."""
    largest = max(sizes, default=0)
    return [(size / largest) ** alpha if size else 0.0 for size in sizes]


def check_alpha(owner: str, name: str, alpha: object) -> float:
    """Return a power as a number.

    :raise ConfigError: if it is less than 0 or no finite number
    """
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 <= alpha < math.inf:
        raise ConfigError(f"{owner}: {name} must be a finite number >= 0, not {alpha!r}", (name,))
    return float(alpha)
