"""What a search may put in one place of a config, or in several at once."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from ..errors import ConfigError, KeyPath, nearest
from .annotations import show

_NUMERIC = ("low", "high", "step", "log")
_KNOWN = ("choices", *_NUMERIC, "keys")
_LARGEST = 2**53
"""Integers up to which samplers, which count in floats, tell all of them apart."""


@dataclass(frozen=True)
class SearchRange:
    """The values that a search chooses from, and the keys of the config that get the chosen one.

    :param name: what the range is called: the key itself, unless ``keys`` names others
    :param keys: the keys, as overrides have them
    :param choices: the values, any of which may be a list or a mapping; empty for numbers between ``low`` and ``high``
    :param low: the least number
    :param high: the greatest
    :param step: from one number to the next; None for any number in between
    :param log: draw the logarithm evenly
    """

    name: str
    keys: tuple[str, ...]
    choices: tuple[Any, ...] = ()
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False

    @classmethod
    def of(cls, name: str, value: Any) -> SearchRange:
        """Return the range that an entry of ``search.ranges`` describes: a list of values, or a mapping.

        :raise ConfigError: with the path of the mistake in the entry
        """
        if isinstance(value, list):
            value = {"choices": value}
        if not isinstance(value, Mapping):
            text = f"expected a list of values, or {{low: …, high: …}} with 'step' or 'log: true', got {show(value)}"
            raise ConfigError(text)
        for key in value:
            if key not in _KNOWN:
                raise ConfigError(f"unknown argument {key!r}{nearest(str(key), _KNOWN)}", (key,))
        keys = _keys(value.get("keys", [name]))
        if "choices" in value:
            for key in _NUMERIC:
                if key in value:
                    raise ConfigError(f"{key!r} makes no sense beside 'choices'", (key,))
            path = ("choices",) if "keys" in value else ()
            return cls(name, keys, _choices(value["choices"], path))
        return cls(name, keys, **_numbers(value))

    @property
    def is_whole(self) -> bool:
        """Whether all of the numbers are integers."""
        return isinstance(self.low, int)

    @property
    def edges(self) -> tuple[tuple[Any, KeyPath], ...]:
        """The values by which the range is checked, with their place in its entry: all choices, or both ends."""
        if self.choices:
            return tuple((choice, (index,)) for index, choice in enumerate(self.choices))
        return (self.low, ("low",)), (self.high, ("high",))

    @property
    def names(self) -> tuple[Any, ...]:
        """The choices as a study stores them: what is no single value is written as JSON."""
        return tuple(_named(choice) for choice in self.choices)

    def value(self, stored: Any) -> Any:
        """Return the value that a study has stored."""
        return self.choices[self.names.index(stored)] if self.choices else stored


def _keys(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(key, str) for key in value):
        raise ConfigError(f"expected a list of keys such as [dataset.batch_size], got {show(value)}", ("keys",))
    for index, key in enumerate(value):
        if key in value[:index]:
            raise ConfigError(f"lists {key!r} twice", ("keys", index))
    return tuple(value)


def _choices(value: Any, path: KeyPath) -> tuple[Any, ...]:
    if not isinstance(value, list) or not value:
        raise ConfigError(f"expected a list of values, got {show(value) if value else 'an empty one'}", path)
    names: list[Any] = []
    for index, choice in enumerate(value):
        try:
            name = _named(choice)
        except ValueError as error:
            raise ConfigError("a number that is not finite cannot be a choice", (*path, index)) from error
        if any(name == other for other in names):  # 1, 1.0 and true are one choice to a study
            raise ConfigError(f"the choice {show(choice)} stands there twice", (*path, index))
        names.append(name)
    return tuple(value)


def _named(choice: Any) -> Any:
    text = json.dumps(choice, allow_nan=False)
    return text if isinstance(choice, list | Mapping) else choice


def _numbers(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return low, high, step and log, all numbers of them integers or floats."""
    for key in ("low", "high"):
        if key not in value:
            raise ConfigError(f"missing {key!r}: a range is a list of values, or has 'low' and 'high'")
    given = {key: value[key] for key in ("low", "high", "step") if value.get(key) is not None or key != "step"}
    for key, number in given.items():
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(_float(number)):
            raise ConfigError(f"expected a finite number, got {show(number)}", (key,))
    low, high, step = value["low"], value["high"], value.get("step")
    log = value.get("log", False)
    is_whole = all(isinstance(number, int) for number in given.values())
    if not isinstance(log, bool):
        raise ConfigError(f"expected true or false, got {show(log)}", ("log",))
    if not low < high:
        raise ConfigError(f"high must be more than low, but {high} is not more than {low}", ("high",))
    if not math.isfinite(_float(high) - _float(low)) or (is_whole and max(-low, high) > _LARGEST):
        raise ConfigError(f"{low} and {high} are too far apart", ("high",))
    if log and low <= 0:
        raise ConfigError(f"a range with 'log: true' must be above 0, but low is {low}", ("low",))
    if step is not None:
        if log:
            raise ConfigError("'step' makes no sense beside 'log: true'", ("step",))
        if step <= 0:
            raise ConfigError(f"expected a number above 0, got {step}", ("step",))
        left = (Decimal(str(high)) - Decimal(str(low))) % Decimal(str(step))
        if left:
            last = Decimal(str(high)) - left
            raise ConfigError(f"high is not reached in steps of {step}; the last one ends at {last}", ("high",))
    kind: type[int] | type[float] = int if is_whole else float
    return {"low": kind(low), "high": kind(high), "step": None if step is None else kind(step), "log": log}


def _float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf
