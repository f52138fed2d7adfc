"""A scheduler of torch's as a learning-rate schedule."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch.optim.lr_scheduler import LRScheduler

from ...errors import ConfigError, nearest
from .abstract_schedule import AbstractSchedule
from .checks import Groups

HANDED_OVER = ("optimizer", "last_epoch")
"""What a scheduler of torch's takes and a config cannot give."""


class TorchSchedule(AbstractSchedule):
    """A schedule that a scheduler of torch's computes, on an optimizer that trains nothing.

    The scheduler is stepped to the number of due steps at hand, and built anew where that is less than it was. So the
    rate follows from this number alone, although the scheduler remembers the rate before; a resumed run takes all steps
    again at its beginning.

    :param kind: the class of the scheduler
    :param options: its arguments but for ``optimizer`` and ``last_epoch``
    :raise ConfigError: for an unknown argument, and later for wrong values, or if the scheduler ends before the run
    """

    needs_length: ClassVar[bool] = False

    def __init__(self, kind: type[LRScheduler], **options: Any) -> None:
        self._kind, self._options = kind, options
        self._groups: Groups = ()
        self._optimizer: _Stage | None = None
        self._scheduler: LRScheduler | None = None
        self._x = 0
        self._limit = math.inf
        """Due steps that the scheduler is made for."""
        parameters = inspect.signature(kind).parameters
        known = [name for name in parameters if name not in HANDED_OVER]
        takes_others = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
        for name in options:
            if name in HANDED_OVER:
                text = "the rate follows from the step" if name == "last_epoch" else "the engine hands it over"
                raise ConfigError(f"schedule {kind.__name__}: {name!r} cannot be set: {text}", (name,))
            if name not in parameters and not takes_others:
                raise ConfigError(f"schedule {kind.__name__}: unknown argument {name!r}{nearest(name, known)}", (name,))

    def prepare(self, groups: Groups) -> None:
        # Copies: a group of the real optimizer changes during the training.
        self._groups = [_plain_group(group) for group in groups]
        try:
            self._start()
            self._advance()  # a step size of 0, for one, fails here first
            self._start()
        except (TypeError, ValueError, ArithmeticError, LookupError) as error:
            raise ConfigError(f"schedule {self._kind.__name__}: {error}") from error

    def rate(self, base: float, x: int, horizon: int) -> float:
        return self.rates([base], x, horizon)[0]

    def rates(self, bases: Sequence[float], x: int, horizon: int) -> list[float]:
        if horizon > self._limit:
            text = f"total_steps is {self._limit}, but the run has {horizon} due steps after the warm-up"
            raise ConfigError(f"{text}; one_cycle takes their number by itself", ("total_steps",))
        return [float(group["lr"]) for group in self._stage(x).param_groups]

    def momentums(self, x: int, horizon: int) -> list[float] | None:
        if not getattr(self._scheduler, "cycle_momentum", False):
            return None
        return [group["betas"][0] if "betas" in group else group["momentum"] for group in self._stage(x).param_groups]

    def _start(self) -> None:
        self._optimizer = _Stage(self._groups)
        make: Callable[..., LRScheduler] = self._kind
        self._scheduler, self._x = make(self._optimizer, **self._options), 0
        self._limit = getattr(self._scheduler, "total_steps", math.inf)
        self._optimizer.step()  # or the scheduler would warn that it is stepped first

    def _advance(self) -> None:
        assert self._scheduler is not None, "prepare comes first"
        self._scheduler.step()
        self._x += 1

    def _stage(self, x: int) -> _Stage:
        if x < self._x:
            self._start()
        while self._x < x:
            try:
                self._advance()
            except ValueError as error:  # OneCycleLR beyond its own total_steps, in a run of unknown length
                raise ConfigError(f"schedule {self._kind.__name__}: {error}") from error
        assert self._optimizer is not None
        return self._optimizer


class _Stage(torch.optim.Optimizer):
    """An optimizer that trains nothing: schedulers of torch's are stepped on it."""

    def __init__(self, groups: Groups) -> None:
        defaults = {key: value for key, value in groups[0].items() if key != "params"}
        super().__init__([dict(group, params=[torch.zeros(0)]) for group in groups], defaults)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Do nothing."""


def _plain_group(group: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {"lr": float(group["lr"])}
    if "momentum" in group:
        plain["momentum"] = group["momentum"]
    if "betas" in group:
        plain["betas"] = tuple(map(float, group["betas"]))
    return plain
