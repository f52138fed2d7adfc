"""What schedules check of their options, and of what they are asked to move."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import ConfigError, nearest

Groups = Sequence[Mapping[str, Any]]
"""The parameter groups of an optimizer."""


def check_number(name: str, value: Any, least: float = 0.0, most: float = math.inf, above: bool = False) -> float:
    """Return ``value`` if it is a finite number in range.

    :param above: whether it must be more than ``least``
    :raise ConfigError: if it is not
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if is_number and (least < value if above else least <= value) and value <= most:
        return float(value)
    allowed = f"more than {least:g}" if above else f"{least:g} or more"
    if most < math.inf:
        allowed = f"{least:g} to {most:g}"
    raise ConfigError(f"{name} must be a number, {allowed}, not {value!r}", (name,))


def check_whole(name: str, value: Any, least: int) -> int:
    """Return ``value`` if it is a whole number, ``least`` or more.

    :raise ConfigError: if it is not
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{name} must be a whole number, {least} or more, not {value!r}", (name,))
    return value


def check_choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """Return ``value`` if it is one of ``choices``.

    :raise ConfigError: if it is not, with the nearest one
    """
    if value not in choices:
        raise ConfigError(f"unknown {name} {value!r}{nearest(str(value), choices)}", (name,))
    return str(value)


def check_each(name: str, value: Any, least: float = 0.0, most: float = math.inf) -> float | list[float]:
    """Return ``value`` if it is a finite number in range, or a list of such, one for each parameter group.

    :raise ConfigError: if it is not
    """
    if not isinstance(value, list | tuple):
        return check_number(name, value, least, most)
    try:
        return [check_number(name, each, least, most) for each in value]
    except ConfigError as error:
        raise ConfigError(f"{error}, nor may one of a list be", (name,)) from error


def per_group(name: str, value: float | list[float], groups: Groups) -> list[float]:
    """Return one value for each parameter group.

    :raise ConfigError: if there are more or fewer values than groups
    """
    if not isinstance(value, list):
        return [value] * len(groups)
    if len(value) != len(groups):
        text = f"{name} has {len(value)} values, but the optimizer has {len(groups)} parameter groups"
        raise ConfigError(f"{text}: give one for each, or a single number", (name,))
    return value


def check_has_momentum(groups: Groups) -> None:
    """Check that there is a momentum to move in every group.

    :raise ConfigError: if there is none
    """
    if not all("momentum" in group or "betas" in group for group in groups):
        text = "cycle_momentum needs an optimizer with 'momentum' or 'betas', and this one has neither"
        raise ConfigError(f"{text}: set cycle_momentum to false", ("cycle_momentum",))
