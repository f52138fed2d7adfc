"""First values of parameters by patterns of their names."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import init

from ..errors import ConfigError, nearest

PREVENT = "prevent"
"""Stands for leaving parameters as they are, whatever other patterns say."""

NAMES = sorted(name[:-1] for name in dir(init) if name.endswith("_") and not name.startswith("_"))
"""The functions of torch.nn.init, without the underscore at the end."""


class Initializer:
    """Gives parameters their first values, each by the first pattern that is found in its name.

    :param entries: pairs of a regular expression and what sets a parameter: the name of a function of torch.nn.init,
        such as ``xavier_uniform`` (or ``xavier_uniform_``), a function of one's own that changes a tensor in place, or
        ``prevent``, which leaves the parameters alone that it matches, wherever it stands
    :raise ConfigError: for a pattern or function that there cannot be
    """

    def __init__(self, entries: Sequence[Any]) -> None:
        if isinstance(entries, str | Mapping) or not isinstance(entries, Sequence):
            raise ConfigError(f"initializer must be a list of pairs [pattern, function], not {entries!r}")
        self._entries: list[tuple[re.Pattern[str], Callable[[Tensor], Any] | None]] = []
        for index, entry in enumerate(entries):
            if not isinstance(entry, list | tuple) or len(entry) != 2:
                raise ConfigError(f"expected a pair [pattern, function], not {entry!r}", (index,))
            pattern, function = entry
            try:
                compiled = re.compile(pattern)
            except (re.error, TypeError) as error:
                raise ConfigError(f"{pattern!r} is no regular expression: {error}", (index, 0)) from error
            self._entries.append((compiled, _function(function, index)))

    def __call__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Set parameters, by their names.

        :raise ConfigError: for a pattern that is in no parameter's name, or only in those that earlier ones have set,
            and for a function that cannot set a parameter
        """
        unused = set(range(len(self._entries)))
        late: dict[int, int] = {}
        """Patterns that were found where an earlier one had decided, and that one."""
        for name, parameter in parameters.items():
            matching = [index for index, (pattern, _) in enumerate(self._entries) if pattern.search(name)]
            functions = [self._entries[index][1] for index in matching]
            if functions and None not in functions:
                self._set(name, parameter, functions[0], matching[0])
                unused.discard(matching[0])
                late.update(dict.fromkeys(matching[1:], matching[0]))
            else:
                unused.difference_update(matching)
        for index in sorted(unused):
            pattern = self._entries[index][0].pattern
            if index in late:
                first = self._entries[late[index]][0].pattern
                text = f"pattern {pattern!r} sets no parameter, as {first!r} is found first; put it before that one"
            else:
                text = f"pattern {pattern!r} is found in the name of no parameter{nearest(pattern, parameters)}"
            raise ConfigError(text, (index, 0))

    @staticmethod
    def _set(name: str, parameter: nn.Parameter, function: Callable[[Tensor], Any] | None, index: int) -> None:
        assert function is not None
        try:
            with torch.no_grad():
                function(parameter)
        except Exception as error:
            shape, reason = tuple(parameter.shape), " ".join(str(error).split())
            text = f"parameter {name!r} of shape {shape} cannot be set: {reason}"
            raise ConfigError(text, (index, 1)) from error


def parameters_of(modules: Mapping[str, nn.Module]) -> dict[str, nn.Parameter]:
    """Return all parameters by name, one that several modules have under its first."""
    found: dict[int, tuple[str, nn.Parameter]] = {}
    for key, module in modules.items():
        for name, parameter in module.named_parameters():
            found.setdefault(id(parameter), (f"{key}.{name}", parameter))
    return dict(found.values())


def find_initializer(named: str | Callable[..., Any], options: Mapping[str, Any]) -> Callable[..., Any]:
    """Return what makes an initializing function of options that a config gives.

    :param named: the name of a function of torch.nn.init, or a function
    :param options: its arguments but the tensor
    :raise ConfigError: for an unknown name or option, or one that is missing
    """
    function = _by_name(named) if isinstance(named, str) else named
    if isinstance(function, type):  # a class, whose objects are called with a parameter
        return function
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return partial(partial, function)
    first = next(iter(parameters), "")
    known = [name for name in parameters if name != first]
    for name in options:
        if name not in known and not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            shown = getattr(function, "__name__", named)
            raise ConfigError(f"{shown} has no argument {name!r}{nearest(name, known)}")
    for name in known:
        parameter = parameters[name]
        if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            if name not in options:
                raise ConfigError(f"{getattr(function, '__name__', named)} needs its argument {name!r}")
    return partial(partial, function)


def _function(function: Any, index: int) -> Callable[[Tensor], Any] | None:
    if function == PREVENT:
        return None
    if isinstance(function, str):
        try:
            found = _by_name(function)
            find_initializer(found, {})
        except ConfigError as error:
            raise error.below((index, 1)) from error
        return found
    if not callable(function):
        text = f"expected a function that sets a parameter, its name, or {PREVENT!r}, not {function!r}"
        raise ConfigError(text, (index, 1))
    return function  # type: ignore[no-any-return]


def _by_name(name: str) -> Callable[..., Any]:
    short = name.removeprefix("torch.nn.init.").removesuffix("_")
    if short not in NAMES:
        raise ConfigError(f"torch.nn.init has no {name!r}{nearest(short, [*NAMES, PREVENT])}")
    found: Callable[..., Any] = getattr(init, f"{short}_")
    return found
