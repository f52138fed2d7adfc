"""The learning rate of a training: a function of the step number alone."""

from __future__ import annotations

import copy
import logging
import math
from typing import Any, Literal, TypeAlias, get_args

import torch

from ..errors import ConfigError, KeyPath, nearest
from ..types import Mode, State
from .schedules.abstract_schedule import AbstractSchedule
from .schedules.by_name import create_schedule
from .schedules.plateau import Plateau

log = logging.getLogger(__name__)

Unit: TypeAlias = Literal["step", "pass"]

UNITS: tuple[Unit, ...] = get_args(Unit)

EXACT_DIGITS = 9
"""Decimals of a length in steps: 0.07 of 100 steps are 7, although the product is 7.000000000000001."""


class LearningRate:
    """Sets the learning rate of every parameter group before each update.

    At step ``s`` with ``W`` warm-up steps it is ``schedule(0) * s / W`` while ``s < W``, then ``schedule(x)``, where
    ``x`` is the number of due steps since the warm-up, and never under ``min_lr``. A step is due where the number of
    steps up to its end is a multiple of the period, which is ``frequency`` steps or passes. After the last step of the
    run the rate stays. Nothing is remembered, so resuming cannot shift it; but for ``plateau``, whose reductions are
    part of the state.

    :param optimizer: its groups' ``lr`` at this moment are the base rates
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        self._bases = [float(group["lr"]) for group in self._groups]
        self._rates = list(self._bases)
        """What was set last."""
        self._warm_up: dict[str, float] = {}
        self._warm_up_path: KeyPath = ()
        self._schedule: AbstractSchedule | None = None
        self._schedule_path: KeyPath = ()
        self._plateau: Plateau | None = None
        self._min_lr = 0.0
        self._unit = "step"
        self._frequency = 1
        self._resets_state = False
        self._begins_with_state = bool(optimizer.state)
        self._initial_state: dict[Any, Any] = {}
        """What the optimizer begins with; empty for most, but Adagrad's sums may begin at any number."""
        self._last_step: float = math.inf
        self._warm_up_steps = 0
        self._horizon = 0
        self._period = 1
        self._warnings: set[str] = set()

    @property
    def _groups(self) -> list[dict[str, Any]]:
        """The parameter groups, asked for anew each time: loading a state into the optimizer replaces them."""
        return self._optimizer.param_groups

    @property
    def initial_state(self) -> dict[Any, Any]:
        """What ``reset_state`` puts in the place of the optimizer's state, by parameter."""
        return self._initial_state

    @property
    def current(self) -> list[float]:
        """The rate of each parameter group; of one that is a tensor, which may be on a device, what was set last."""
        return [
            rate if isinstance(group["lr"], torch.Tensor) else float(group["lr"])
            for group, rate in zip(self._groups, self._rates, strict=True)
        ]

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
        try:
            lengths = {name: float(value) for name, value in given.items() if value is not None}
        except OverflowError as error:
            raise ConfigError(f"the warm-up's length is no number that can be reckoned with: {error}", path) from error
        if len(lengths) != 1:
            raise ConfigError(f"the warm-up needs exactly one of {', '.join(given)}", path)
        name, length = next(iter(lengths.items()))
        if length < 0 or not math.isfinite(length) or (name == "percentage" and length > 1):
            allowed = "0 to 1" if name == "percentage" else "0 or more"
            raise ConfigError(f"the warm-up's {name} must be {allowed}, not {given[name]}", (*path, name))
        if name == "steps" and not length.is_integer():
            raise ConfigError(f"the warm-up's steps must be a whole number, not {steps}", (*path, name))
        if self._warm_up:
            raise ConfigError("the warm-up is set twice", path)
        self._warm_up, self._warm_up_path = lengths, path

    def follow(
        self,
        schedule: Any,
        min_lr: float = 0.0,
        unit: Unit | None = None,
        frequency: int = 1,
        reset_state: bool = False,
        mode: Mode = "min",
        path: KeyPath = (),
    ) -> None:
        """Follow a schedule after the warm-up.

        :param schedule: a name in ``SCHEDULES``, or what else ``create_schedule`` makes one of
        :param min_lr: the rate never falls under this after the warm-up
        :param unit: ``step`` (the default) or ``pass``: what the rate changes after; ``plateau`` takes none
        :param frequency: change after this many units; for ``plateau``, look at every n-th number
        :param reset_state: empty the optimizer's state whenever a rate has changed since the last update
        :param mode: for ``plateau``: ``min`` if less of the number is better, ``max`` if more is
        :param path: where in the config this was set, for error texts
        :raise ConfigError: for an unknown schedule, option or unit, a value out of range, or a second schedule
        """
        if unit not in (None, *UNITS):
            raise ConfigError(f"unknown unit {unit!r}{nearest(str(unit), UNITS)}", (*path, "unit"))
        if isinstance(frequency, bool) or not isinstance(frequency, int) or frequency < 1:
            raise ConfigError(f"frequency must be a whole number, 1 or more, not {frequency!r}", (*path, "frequency"))
        if min_lr < 0 or not math.isfinite(min_lr):
            raise ConfigError(f"min_lr must be 0 or more, not {min_lr}", (*path, "min_lr"))
        if self._schedule is not None:
            raise ConfigError("a learning-rate schedule is set twice", path)
        if reset_state and self._begins_with_state:
            self._initial_state = {p: copy.deepcopy(entry) for p, entry in self._optimizer.state.items()}
        try:
            made = create_schedule(schedule)
            made.min_lr = min_lr
            made.prepare(self._groups)
        except ConfigError as error:
            raise error.below((*path, "schedule")) from error.__cause__
        if isinstance(made, Plateau):
            if unit is not None:
                text = "plateau goes by the numbers it watches; 'frequency: n' looks at every n-th of them"
                raise ConfigError(f"the schedule plateau takes no unit: {text}", (*path, "unit"))
            made.mode, made.frequency = mode, frequency
            self._plateau = made
        self._schedule, self._schedule_path = made, path
        self._min_lr, self._unit, self._frequency = min_lr, unit or "step", frequency
        self._resets_state = reset_state

    def renew(self, optimizer: torch.optim.Optimizer) -> None:
        """Get to know parameter groups that have changed.

        :param optimizer: one with the new groups as they would begin, their ``lr`` being the base rates
        :raise ConfigError: if the schedule does not fit them; then nothing is changed
        """
        schedule = copy.deepcopy(self._schedule)  # what is refused must leave the one in use as it is
        if schedule is not None:
            schedule.prepare(optimizer.param_groups)
        if self._plateau is not None:
            assert isinstance(schedule, Plateau)
            self._plateau = schedule
        self._schedule = schedule
        self._bases = [float(group["lr"]) for group in optimizer.param_groups]
        if len(self._rates) != len(self._bases):
            self._rates = list(self._bases)
        if self._resets_state and self._begins_with_state:
            self._initial_state = {p: copy.deepcopy(entry) for p, entry in optimizer.state.items()}

    @property
    def watches(self) -> bool:
        """Whether the schedule follows a number, which is to be handed to ``feed``."""
        return self._plateau is not None

    def feed(self, value: float, step: int) -> None:
        """Take a new value of the number that ``plateau`` watches; it matters from the next update on.

        As other schedules begin after the warm-up, so does this one: a value that came before the first step after it
        is not judged, but it counts for ``frequency``. That of the zeroth epoch does neither.

        :param value: the value, not nan
        :param step: number of steps that were trained before it was found
        """
        if self._plateau is not None and step:
            self._plateau.feed(value, step > self._warm_up_steps)

    def set_length(self, total_steps: int | None, pass_steps: int | None, missing: str = "") -> None:
        """Learn the length of the run and of a pass.

        :param total_steps: steps of the run, None if not known
        :param pass_steps: steps of a pass through the train stream, None if not known
        :param missing: what the user can set to make the length of the run known
        :raise ConfigError: if a length is needed that is not known, or a schedule of the user's returns no rate
        """

        def run_steps(what: str, path: KeyPath) -> int:
            if total_steps is None:
                raise ConfigError(f"{what} needs the length of the run: add {missing}", path)
            return total_steps

        def steps_per_pass(what: str, path: KeyPath) -> int:
            if pass_steps is None:
                raise ConfigError(f"{what} needs a train stream that knows its length: set it in steps", path)
            return pass_steps

        self._last_step = math.inf if total_steps is None else total_steps
        self._warm_up_steps = 0
        for name, length in self._warm_up.items():
            if name == "steps":
                self._warm_up_steps = int(length)
            elif name == "percentage":
                run = run_steps("a warm-up in percent", self._warm_up_path)
                self._warm_up_steps = math.ceil(round(length * run, EXACT_DIGITS))
            else:
                in_pass = steps_per_pass("a warm-up in passes", self._warm_up_path)
                self._warm_up_steps = int(round(length * in_pass, EXACT_DIGITS))
        if self._warm_up_steps > self._last_step:
            text = f"the warm-up of {self._warm_up_steps} steps does not end within the run of {total_steps}"
            self._warn(f"{text}, so the full rate is never reached")
        if self._schedule is None:
            return
        in_unit = 1 if self._unit == "step" else steps_per_pass("unit: pass", self._schedule_path)
        self._period = self._frequency * in_unit
        if self._schedule.needs_length:
            run_steps("this learning-rate schedule", self._schedule_path)
        self._horizon = 0
        if total_steps is not None:
            self._horizon = max(1, -(-total_steps // self._period) - self._warm_up_steps // self._period)
        if self._horizon == 1 and self._last_step > self._warm_up_steps + 1 and not self.watches:
            text = f"it would change after {self._period} steps, and the run has {total_steps}"
            self._warn(f"the learning rate stays as the schedule begins: {text}")
        try:
            first = self._schedule.rates(self._bases, 0, self._horizon)
        except ConfigError as error:
            raise error.below((*self._schedule_path, "schedule")) from error.__cause__
        except Exception as error:  # of somebody's function
            text = f"the schedule cannot return its first rate: {type(error).__name__}: {error}"
            raise ConfigError(text, (*self._schedule_path, "schedule")) from error
        for rate in first:
            if isinstance(rate, bool) or not isinstance(rate, int | float) or not math.isfinite(rate) or rate < 0:
                text = f"the schedule must return a finite number, 0 or more, but its first rate is {rate!r}"
                raise ConfigError(text, (*self._schedule_path, "schedule"))

    def _warn(self, text: str) -> None:
        """Say it once; the length is learnt when a run is checked, and again when it starts."""
        if text not in self._warnings:
            self._warnings.add(text)
            log.warning(text)

    def apply(self, step: int) -> None:
        """Set the rate of every group for the update at the end of step ``step``, counted from 0."""
        if self._schedule is None and not self._warm_up_steps:
            return
        if self._plateau is not None:
            self._plateau.take_effect()
        before = self._rates
        self._set(step)
        if self._resets_state and self._rates != before:
            self._optimizer.state.clear()
            self._optimizer.state.update({p: copy.deepcopy(entry) for p, entry in self._initial_state.items()})

    def begin(self, step: int) -> None:
        """Set the rates of step ``step`` without an update, and without what a change of them would empty."""
        if self._schedule is not None and self._schedule.needs_length and not self._horizon:
            return  # before a run, or going on with one, which learns its length after its hooks have their state
        if self._schedule is not None or self._warm_up_steps:
            self._set(step)

    def _set(self, step: int) -> None:
        schedule, warm_up = self._schedule, self._warm_up_steps
        if step > self._last_step:
            step = int(self._last_step)
        x = 0 if step < warm_up else step // self._period - warm_up // self._period
        rates = self._bases if schedule is None else schedule.rates(self._bases, x, self._horizon)
        if step < warm_up:
            rates = [rate * step / warm_up for rate in rates]
        else:
            rates = [max(rate, self._min_lr) for rate in rates]
        self._rates = rates
        for group, rate in zip(self._groups, rates, strict=True):
            _put(group, "lr", rate)
        momentums = None if schedule is None else schedule.momentums(x, self._horizon)
        if momentums is not None:
            for group, momentum in zip(self._groups, momentums, strict=True):
                _put_momentum(group, momentum)

    def state_dict(self) -> dict[str, State]:
        """Return what ``plateau`` has seen; no other schedule remembers anything."""
        return {} if self._plateau is None else {"plateau": self._plateau.state_dict()}

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Go on from what ``state_dict`` returned; the schedule itself comes from the config."""
        if self._plateau is not None and "plateau" in state:
            self._plateau.load_state_dict(state["plateau"])
        elif self._plateau is not None:
            log.warning("the schedule plateau begins anew: the checkpoint was written with another schedule")
        elif "plateau" in state:
            log.warning("the learning rate follows another schedule now: what plateau had seen is left out")


def _put(group: dict[str, Any], key: str, value: float) -> None:
    """Set a number of a parameter group; a tensor is filled, since a captured graph goes on reading it."""
    if isinstance(group[key], torch.Tensor):
        group[key].fill_(value)
    else:
        group[key] = value


def _put_momentum(group: dict[str, Any], momentum: float) -> None:
    """Set the momentum, or the first of the ``betas`` of an optimizer such as Adam."""
    if "betas" not in group:
        _put(group, "momentum", momentum)
    elif isinstance(group["betas"][0], torch.Tensor):
        group["betas"][0].fill_(momentum)
    else:
        group["betas"] = (momentum, *group["betas"][1:])
