"""A learning rate that goes up once and then far down."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

from .abstract_schedule import AbstractSchedule
from .checks import Groups, check_choice, check_each, check_has_momentum, check_number, per_group

Strategy: TypeAlias = Literal["cos", "linear"]


class OneCycle(AbstractSchedule):
    """Go up to ``max_lr`` and down to almost nothing within the run; the optimizer's own rate does not matter.

    Options that may differ between parameter groups are a number, or a list with one for each.

    :param max_lr: the highest rate
    :param pct_start: the share of the run in which the rate goes up, 0 to 1
    :param anneal_strategy: ``cos`` or ``linear``: the way from one rate to the next
    :param cycle_momentum: whether the momentum (``betas[0]`` of Adam and its like) goes the other way meanwhile
    :param base_momentum: the momentum at the highest rate
    :param max_momentum: the momentum at the beginning and at the end
    :param div_factor: the rate begins at ``max_lr / div_factor``
    :param final_div_factor: and ends at this fraction of that
    :raise ConfigError: for an option out of range

    Source: Smith and Topin, Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates, 2018.
    """

    def __init__(
        self,
        max_lr: float | Sequence[float] = 0.1,
        pct_start: float = 0.3,
        anneal_strategy: Strategy = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.85,
        max_momentum: float | Sequence[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
    ) -> None:
        self._max_lr = check_each("max_lr", max_lr)
        self._pct_start = check_number("pct_start", pct_start, most=1)
        self._is_cosine = check_choice("anneal_strategy", anneal_strategy, get_args(Strategy)) == "cos"
        self._cycle_momentum = cycle_momentum
        self._base_momentum = check_each("base_momentum", base_momentum, most=1)
        self._max_momentum = check_each("max_momentum", max_momentum, most=1)
        self._div_factor = check_number("div_factor", div_factor, above=True)
        self._final_div_factor = check_number("final_div_factor", final_div_factor, above=True)
        self._rates: list[tuple[float, float, float]] = []
        self._momentums: list[tuple[float, float, float]] = []

    def prepare(self, groups: Groups) -> None:
        self._rates = []
        for height in per_group("max_lr", self._max_lr, groups):
            begin = height / self._div_factor
            self._rates.append((begin, height, begin / self._final_div_factor))
        if self._cycle_momentum:
            check_has_momentum(groups)
            lows = per_group("base_momentum", self._base_momentum, groups)
            heights = per_group("max_momentum", self._max_momentum, groups)
            self._momentums = [(height, low, height) for low, height in zip(lows, heights, strict=True)]

    def rate(self, base: float, x: int, horizon: int) -> float:
        return self.rates([base], x, horizon)[0]

    def rates(self, bases: Sequence[float], x: int, horizon: int) -> list[float]:
        return self._between(self._rates, x, horizon)

    def momentums(self, x: int, horizon: int) -> list[float] | None:
        return self._between(self._momentums, x, horizon) if self._cycle_momentum else None

    def _between(self, points: list[tuple[float, float, float]], x: int, horizon: int) -> list[float]:
        """Return where each group is on its way from the first of its points to the second and on to the third."""
        last = horizon - 1
        x = min(x, last)  # the last due step of the run is the end of the way
        turn = self._pct_start * horizon - 1
        goes_up = x <= turn
        begin, end = (0.0, turn) if goes_up else (turn, float(last))
        share = (x - begin) / (end - begin) if end != begin else 1.0
        here = [(first, second) if goes_up else (second, third) for first, second, third in points]
        if self._is_cosine:
            wave = math.cos(math.pi * share) + 1
            return [end + (begin - end) / 2.0 * wave for begin, end in here]
        return [(end - begin) * share + begin for begin, end in here]
