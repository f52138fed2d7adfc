"""A learning rate that goes up and down."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, TypeAlias, get_args

from ...errors import ConfigError
from .abstract_schedule import AbstractSchedule
from .checks import Groups, check_choice, check_each, check_has_momentum, check_number, per_group

CyclicMode: TypeAlias = Literal["triangular", "triangular2", "exp_range"]
ScaleMode: TypeAlias = Literal["cycle", "iterations"]


class Cyclic(AbstractSchedule):
    """Go from ``base_lr`` to ``max_lr`` and back, over and over; the optimizer's own rate does not matter.

    Options that may differ between parameter groups are a number, or a list with one for each.

    :param base_lr: the rate at the beginning of a cycle
    :param max_lr: the rate at its height
    :param step_size_up: due steps from ``base_lr`` to ``max_lr``
    :param step_size_down: due steps back; as many if it is not given
    :param mode: ``triangular``; ``triangular2``, whose height halves with every cycle; or ``exp_range``, whose
        height is multiplied with ``gamma`` at every due step
    :param gamma: the factor of ``exp_range``
    :param scale_fn: what the height is multiplied with instead, as a function of the number of the cycle, from 1 on
    :param scale_mode: ``cycle``, or ``iterations`` if ``scale_fn`` takes the number of due steps
    :param cycle_momentum: whether the momentum (``betas[0]`` of Adam and its like) goes the other way meanwhile
    :param base_momentum: the momentum at the height of a cycle, if nothing scales it
    :param max_momentum: the momentum at the beginning of a cycle
    :raise ConfigError: for an option out of range

    Source: Smith, Cyclical Learning Rates for Training Neural Networks, 2017.
    """

    needs_length: ClassVar[bool] = False

    def __init__(
        self,
        base_lr: float | Sequence[float] = 0.001,
        max_lr: float | Sequence[float] = 0.1,
        step_size_up: float = 2000,
        step_size_down: float | None = None,
        mode: CyclicMode = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[int], float] | None = None,
        scale_mode: ScaleMode = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.8,
        max_momentum: float | Sequence[float] = 0.9,
    ) -> None:
        self._base_lr, self._max_lr = check_each("base_lr", base_lr), check_each("max_lr", max_lr)
        up = check_number("step_size_up", step_size_up, above=True)
        down = up if step_size_down is None else check_number("step_size_down", step_size_down, above=True)
        self._length, self._turn = up + down, up / (up + down)
        self._mode = check_choice("mode", mode, get_args(CyclicMode))
        self._gamma = check_number("gamma", gamma)
        if scale_fn is not None and not callable(scale_fn):
            raise ConfigError(f"scale_fn must be a function of a number, not {scale_fn!r}", ("scale_fn",))
        if self._gamma != 1 and (mode != "exp_range" or scale_fn is not None):
            raise ConfigError("gamma is only used with mode: exp_range and without scale_fn", ("gamma",))
        check_choice("scale_mode", scale_mode, get_args(ScaleMode))
        if scale_mode != "cycle" and scale_fn is None:
            raise ConfigError("scale_mode says what scale_fn takes, and there is none", ("scale_mode",))
        self._scale_fn, self._scales_cycles = scale_fn, scale_mode == "cycle"
        self._cycle_momentum = cycle_momentum
        self._base_momentum = check_each("base_momentum", base_momentum, most=1)
        self._max_momentum = check_each("max_momentum", max_momentum, most=1)
        self._spans: list[tuple[float, float]] = []
        self._momentum_spans: list[tuple[float, float]] = []

    def prepare(self, groups: Groups) -> None:
        lows, heights = per_group("base_lr", self._base_lr, groups), per_group("max_lr", self._max_lr, groups)
        self._spans = [(low, height - low) for low, height in zip(lows, heights, strict=True)]
        if self._cycle_momentum:
            check_has_momentum(groups)
            lows = per_group("base_momentum", self._base_momentum, groups)
            heights = per_group("max_momentum", self._max_momentum, groups)
            self._momentum_spans = [(height, height - low) for low, height in zip(lows, heights, strict=True)]

    def rate(self, base: float, x: int, horizon: int) -> float:
        return self.rates([base], x, horizon)[0]

    def rates(self, bases: Sequence[float], x: int, horizon: int) -> list[float]:
        height, scale = self._height(x)
        return [low + span * height * scale for low, span in self._spans]

    def momentums(self, x: int, horizon: int) -> list[float] | None:
        if not self._cycle_momentum:
            return None
        height, scale = self._height(x)
        return [high - span * height * scale for high, span in self._momentum_spans]

    def _height(self, x: int) -> tuple[float, float]:
        """Return how far up the cycle is, 0 to 1, and what scales it."""
        cycle = math.floor(1 + x / self._length)
        within = 1.0 + x / self._length - cycle
        height = within / self._turn if within <= self._turn else (within - 1) / (self._turn - 1)
        if self._scale_fn is not None:
            return height, self._scale_fn(cycle if self._scales_cycles else x)
        if self._mode == "triangular":
            return height, 1.0
        return height, 0.5 ** (cycle - 1) if self._mode == "triangular2" else self._gamma**x
