"""The learning rate of a training: a function of the step number alone."""

from __future__ import annotations

import math
from typing import Any

import torch

from ..errors import ConfigError, KeyPath, nearest
from .schedules import SCHEDULES, Schedule

UNITS = ("step", "pass")


class LearningRate:
    """Sets the learning rate of every parameter group before each update.

    At step ``s`` with ``W`` warm-up steps it is ``schedule(0) * s / W`` while ``s < W``, then ``schedule(s - W)``
    over a horizon of the remaining steps, from there on never under ``min_lr``. Nothing is remembered, so resuming
    cannot shift it.

    :param optimizer: its groups' ``lr`` at this moment are the base rates
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        self._bases = [float(group["lr"]) for group in self._groups]
        self._warm_up: dict[str, float] = {}
        self._warm_up_path: KeyPath = ()
        self._schedule: Schedule | None = None
        self._schedule_path: KeyPath = ()
        self._min_lr = 0.0
        self._unit = "step"
        self._frequency = 1
        self._warm_up_steps = 0
        self._horizon = 0
        self._period = 1

    @property
    def _groups(self) -> list[dict[str, Any]]:
        """The parameter groups, asked for anew each time: loading a state into the optimizer replaces them."""
        return self._optimizer.param_groups

    @property
    def current(self) -> list[float]:
        """The rate of each parameter group."""
        return [float(group["lr"]) for group in self._groups]

    def warm_up(
        self,
        steps: int | None = None,
        percentage: float | None = None,
        passes: float | None = None,
        path: KeyPath = (),
    ) -> None:
        """Rise linearly from 0 at the beginning.

        :param steps: length in steps
        :param percentage: length as a share of the run, 0 to 1
        :param passes: length in passes through the train stream
        :param path: where in the config this was set, for error texts
        :raise ConfigError: unless exactly one length is given, in range, and no other warm-up was set
        """
        given = {"steps": steps, "percentage": percentage, "passes": passes}
        lengths = {name: float(value) for name, value in given.items() if value is not None}
        if len(lengths) != 1:
            raise ConfigError(f"the warm-up needs exactly one of {', '.join(given)}", path)
        name, length = next(iter(lengths.items()))
        if length < 0 or not math.isfinite(length) or (name == "percentage" and length > 1):
            allowed = "0 to 1" if name == "percentage" else "0 or more"
            raise ConfigError(f"the warm-up's {name} must be {allowed}, not {given[name]}", (*path, name))
        if self._warm_up:
            raise ConfigError("the warm-up is set twice", path)
        self._warm_up, self._warm_up_path = lengths, path

    def follow(
        self, schedule: str, min_lr: float = 0.0, unit: str = "step", frequency: int = 1, path: KeyPath = ()
    ) -> None:
        """Follow a schedule after the warm-up.

        :param schedule: a name in ``SCHEDULES``
        :param min_lr: the rate never falls under this after the warm-up
        :param unit: ``step`` or ``pass``: what the rate changes after
        :param frequency: change after this many units
        :param path: where in the config this was set, for error texts
        :raise ConfigError: for an unknown schedule or unit, a value out of range, or a second schedule
        """
        if schedule not in SCHEDULES:
            raise ConfigError(f"unknown schedule {schedule!r}{nearest(schedule, SCHEDULES)}", (*path, "schedule"))
        if unit not in UNITS:
            raise ConfigError(f"unknown unit {unit!r}{nearest(unit, UNITS)}", (*path, "unit"))
        if frequency < 1:
            raise ConfigError(f"frequency must be 1 or more, not {frequency}", (*path, "frequency"))
        if min_lr < 0 or not math.isfinite(min_lr):
            raise ConfigError(f"min_lr must be 0 or more, not {min_lr}", (*path, "min_lr"))
        if self._schedule is not None:
            raise ConfigError("a learning-rate schedule is set twice", path)
        self._schedule, self._schedule_path = SCHEDULES[schedule], path
        self._min_lr, self._unit, self._frequency = min_lr, unit, frequency

    def set_length(self, total_steps: int | None, pass_steps: int | None, missing: str = "") -> None:
        """Learn the length of the run and of a pass.

        :param total_steps: steps of the run, None if not known
        :param pass_steps: steps of a pass through the train stream, None if not known
        :param missing: what the user can set to make the length of the run known
        :raise ConfigError: if a length is needed that is not known
        """

        def run_steps(what: str, path: KeyPath) -> int:
            if total_steps is None:
                raise ConfigError(f"{what} needs the length of the run: add {missing}", path)
            return total_steps

        def steps_per_pass(what: str, path: KeyPath) -> int:
            if pass_steps is None:
                raise ConfigError(f"{what} needs a train stream that knows its length: set it in steps", path)
            return pass_steps

        self._warm_up_steps = 0
        for name, length in self._warm_up.items():
            if name == "steps":
                self._warm_up_steps = int(length)
            elif name == "percentage":
                run = run_steps("a warm-up in percent", self._warm_up_path)
                self._warm_up_steps = math.ceil(length * run)
            else:
                in_pass = steps_per_pass("a warm-up in passes", self._warm_up_path)
                self._warm_up_steps = int(length * in_pass)
        if self._schedule is not None:
            in_unit = 1 if self._unit == "step" else steps_per_pass("unit: pass", self._schedule_path)
            self._period = self._frequency * in_unit
            rest = run_steps("a learning-rate schedule", self._schedule_path) - self._warm_up_steps
            self._horizon = max(1, math.ceil(rest / self._period))

    def apply(self, step: int) -> None:
        """Set the rate of every group for the update at the end of step ``step``, counted from 0."""
        if self._schedule is None and not self._warm_up_steps:
            return
        for group, base in zip(self._groups, self._bases, strict=True):
            group["lr"] = self._at(step, base)

    def _at(self, step: int, base: float) -> float:
        warm_up = self._warm_up_steps
        if step < warm_up:
            return self._scheduled(0, base) * step / warm_up
        return max(self._scheduled((step - warm_up) // self._period, base), self._min_lr)

    def _scheduled(self, x: int, base: float) -> float:
        if self._schedule is None:
            return base
        return self._schedule(base, min(x, self._horizon), self._horizon, self._min_lr)
