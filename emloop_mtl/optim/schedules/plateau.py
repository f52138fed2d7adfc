"""A learning rate that falls when a number has stopped to improve."""

from __future__ import annotations

from math import copysign
from typing import ClassVar, Literal, TypeAlias, get_args

from ...errors import ConfigError
from ...types import State
from .abstract_schedule import AbstractSchedule
from .checks import check_choice, check_number, check_whole

ThresholdMode: TypeAlias = Literal["rel", "abs"]


class Plateau(AbstractSchedule):
    """Multiply the rate with ``factor`` when a number has not improved for more than ``patience`` values.

    The number of these reductions is what is remembered; the rates follow from it.

    :param factor: the factor, less than 1
    :param patience: how many values in a row may be no improvement
    :param threshold: how much better than the best a value must be to be an improvement
    :param threshold_mode: ``rel`` if the threshold is a share of the best, ``abs`` if it is a difference
    :param cooldown: how many values after a reduction are not counted against it
    :param eps: the rate of a group stays as it is where it would change by no more than this
    :raise ConfigError: for an option out of range
    """

    needs_length: ClassVar[bool] = False

    def __init__(
        self,
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: ThresholdMode = "rel",
        cooldown: int = 0,
        eps: float = 1e-8,
    ) -> None:
        self._factor = check_number("factor", factor)
        if self._factor >= 1:
            raise ConfigError(f"factor must be less than 1, not {factor!r}", ("factor",))
        self._patience = check_whole("patience", patience, least=0)
        self._threshold = check_number("threshold", threshold)
        self._is_relative = check_choice("threshold_mode", threshold_mode, get_args(ThresholdMode)) == "rel"
        self._cooldown = check_whole("cooldown", cooldown, least=0)
        self._eps = check_number("eps", eps)
        self.mode = "min"
        """``min`` if less is better, ``max`` if more is."""
        self.frequency = 1
        """How many values make one that is looked at: the last of them."""
        self._best: float | None = None
        self._bad = 0
        self._cooling = 0
        self._seen = 0
        self._reductions = 0
        self._in_effect = 0
        self._known: dict[float, float] = {}

    def rate(self, base: float, x: int, horizon: int) -> float:
        if base not in self._known:
            self._known[base] = self._reduced(base, self._in_effect)
        return self._known[base]

    def take_effect(self) -> None:
        """Let the reductions up to now be in effect; called before an update, so that no rate changes between two."""
        if self._in_effect != self._reductions:
            self._in_effect = self._reductions
            self._known.clear()

    def feed(self, value: float, counts: bool = True) -> None:
        """Take a new value of the number that is watched.

        :param counts: whether it is judged if it is one of those that are looked at
        """
        self._seen += 1
        if self._seen % self.frequency or not counts:
            return
        if self._best is None or self._is_improvement(value, self._best):
            self._best, self._bad = value, 0
        else:
            self._bad += 1
        if self._cooling:
            self._cooling -= 1
            self._bad = 0
        if self._bad > self._patience:
            self._reductions += 1
            self._cooling, self._bad = self._cooldown, 0

    def _is_improvement(self, value: float, best: float) -> bool:
        sign = 1 if self.mode == "max" else -1
        # The sign of the best makes a share of it a step to the better for negative numbers, too.
        share = 1 + sign * copysign(self._threshold, best)
        wanted = best * share if self._is_relative else best + sign * self._threshold
        return value > wanted if self.mode == "max" else value < wanted

    def _reduced(self, rate: float, times: int) -> float:
        for _ in range(times):
            lower = max(rate * self._factor, self.min_lr)
            if rate - lower <= self._eps:
                break
            rate = lower
        return rate

    def state_dict(self) -> dict[str, State]:
        """Return the best value, the counts, and how many reductions there were and how many are in effect."""
        return {
            "best": self._best,
            "bad": self._bad,
            "cooling": self._cooling,
            "seen": self._seen,
            "reductions": self._reductions,
            "in_effect": self._in_effect,
        }

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Go on from what ``state_dict`` returned."""
        self._best, self._bad, self._cooling = state["best"], state["bad"], state["cooling"]
        self._seen, self._reductions, self._in_effect = state["seen"], state["reductions"], state["in_effect"]
        self._known.clear()
