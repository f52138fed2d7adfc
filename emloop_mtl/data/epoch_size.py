"""Where the epochs of a stream end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

from ..errors import ConfigError, nearest
from .stream_position import StreamPosition

SETTING = "main_loop.fixed_epoch_size"
UNITS = ("samples", "passes")


class EpochSize:
    """The length of an epoch, in steps, samples or passes; without one an epoch is a pass.

    Epoch k ends at the first end of a step that reaches k times the size, counted from the start, so that what one
    epoch has too much the next one has less; every epoch has at least one step.

    :param setting: steps (-1 for no fixed size), ``{"samples": n}``, ``{"passes": x}`` or None
    :raise ConfigError: for anything else
    """

    def __init__(self, setting: int | Mapping[str, float] | None = None) -> None:
        self._unit = "steps"
        self._size: int | Fraction = 0
        self.is_fixed = False
        """Whether there is a size at all."""
        if setting is None or setting == -1:
            return
        size: object = setting
        if isinstance(setting, Mapping):
            if len(setting) != 1:
                raise _error(f"{dict(setting)} names {len(setting)} sizes, one of {', '.join(UNITS)} is needed")
            [(self._unit, size)] = setting.items()
            if self._unit not in UNITS:
                raise _error(f"unknown unit {self._unit!r}{nearest(self._unit, UNITS)}")
        whole = isinstance(size, int) or (isinstance(size, float) and size.is_integer() and self._unit != "steps")
        if isinstance(size, bool) or not (whole or (self._unit == "passes" and isinstance(size, float))):
            raise _error(f"{size!r} is not a number of {self._unit}")
        assert isinstance(size, (int, float))
        if not (math.isfinite(size) and size > 0):
            raise _error(f"{size!r} {self._unit} are no epoch; more than 0 are needed")
        # 0.1 and 1/3 are meant as such, whatever their floats are.
        exact = Fraction(size).limit_denominator(10**6)
        if exact == 0:
            raise _error(f"{size!r} {self._unit} are too few")
        # It is compared in every step, and whole numbers compare much faster.
        self._size = exact.numerator if exact.denominator == 1 else exact
        self.is_fixed = True

    @property
    def is_in_passes(self) -> bool:
        """Whether the size is given in passes."""
        return self._unit == "passes"

    def __str__(self) -> str:
        return f"{float(self._size):g} {self._unit}" if self.is_fixed else "one pass"

    def check(self, pass_steps: int | None) -> None:
        """Check that the size means something for a stream whose passes have ``pass_steps`` steps.

        :raise ConfigError: if the size is given in passes, and their length is not known
        """
        if self._unit == "passes" and pass_steps is None:
            raise _error("a size in passes needs a train stream of known length; give it in steps or samples")

    def steps(self, pass_steps: int | None) -> int | None:
        """Return how many steps every epoch has, None where that is not known or not always the same."""
        if not self.is_fixed:
            return pass_steps
        if self._unit == "samples":
            return None
        size = self._size if self._unit == "steps" else self._size * (pass_steps or 0)
        return int(size) if size.denominator == 1 and size > 0 else None

    def steps_of(self, epochs: int, pass_steps: int | None) -> int | None:
        """Return how many steps the first ``epochs`` epochs have together, None where that is not known."""
        if self._unit == "samples" or (pass_steps is None and not (self.is_fixed and self._unit == "steps")):
            return None
        if not self.is_fixed:
            return epochs * (pass_steps or 0)
        size = self._size if self._unit == "steps" else self._size * (pass_steps or 0)
        return max(epochs, math.ceil(epochs * size))

    def is_reached(self, position: StreamPosition, pass_steps: int | None) -> bool:
        """Tell whether the present epoch ends at ``position``.

        :param pass_steps: steps of one pass, where they are known
        """
        if not self.is_fixed:
            return position.passes > position.epoch_passes
        if position.barren:
            # It would never end.
            return True
        if position.step_batches or not position.epoch_steps:
            return False
        reached, size = position.steps, self._size
        if self._unit == "samples":
            reached = position.samples
        elif self._unit == "passes":
            size *= pass_steps or 0
        return reached >= size * (position.epochs + 1)


def _error(text: str) -> ConfigError:
    return ConfigError(f"{SETTING}: {text}", ("main_loop", "fixed_epoch_size"))
