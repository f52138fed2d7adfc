"""A function of one's own as a learning-rate schedule."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from inspect import Parameter
from typing import Any

from ...errors import ConfigError, nearest
from .abstract_schedule import AbstractSchedule

FORM = "a schedule is called as f(base, x, horizon), or as f(base, x) if it takes no horizon"
_BY_POSITION = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


class FunctionSchedule(AbstractSchedule):
    """A schedule that a function computes.

    :param function: gets the base rate of a parameter group, the number of due steps since the warm-up and, if it has
        a third argument, the number of due steps to the end of the run; where that one has a default, the run may be
        of unknown length. Returns the rate
    :param options: further arguments of the function
    :raise ConfigError: if the function cannot be called so
    """

    def __init__(self, function: Callable[..., float], **options: Any) -> None:
        name = getattr(function, "__name__", type(function).__name__)
        try:
            parameters = inspect.signature(function).parameters
        except (TypeError, ValueError) as error:
            raise ConfigError(f"schedule {name}: its arguments cannot be known; write a function around it") from error
        free = [p for p in parameters.values() if p.kind in _BY_POSITION and p.name not in options]
        third = free[2] if len(free) > 2 else None
        self._takes_horizon = third is not None and (third.name == "horizon" or third.default is Parameter.empty)
        self.needs_length = (  # type: ignore[misc]  # of this object, as its function needs it
            third is not None and third.default is Parameter.empty
        )
        takes_others = any(p.kind is Parameter.VAR_KEYWORD for p in parameters.values())
        for option in options:
            if option not in parameters and not takes_others:
                known = [p.name for p in parameters.values() if p not in free[:3]]
                raise ConfigError(f"schedule {name}: unknown argument {option!r}{nearest(option, known)}", (option,))
        try:
            inspect.signature(function).bind(0.1, 0, *([1] if self._takes_horizon else []), **options)
        except TypeError as error:
            raise ConfigError(f"schedule {name}: {error}; {FORM}") from error
        self._function = partial(function, **options) if options else function

    def rate(self, base: float, x: int, horizon: int) -> float:
        if self._takes_horizon and (horizon or self.needs_length):
            return self._function(base, x, horizon)
        return self._function(base, x)
