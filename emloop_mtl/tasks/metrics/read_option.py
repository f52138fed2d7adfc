"""Options that several metrics have."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from ...errors import ConfigError, nearest


def read_zero_division(name: str, value: Any) -> float:
    """Return the score where there is nothing to divide by.

    :param name: the metric, for messages
    :param value: 0, 1 or nan, also as the word ``nan``
    :raise ConfigError: for anything else
    """
    value = math.nan if value == "nan" else value
    usable = isinstance(value, int | float) and not isinstance(value, bool)
    if not usable or not (value in (0, 1) or math.isnan(value)):
        raise ConfigError(f"metric {name!r}: zero_division must be 0, 1 or nan, not {value!r}", ("zero_division",))
    return float(value)


def read_beta(value: Any) -> float:
    """Return how many times as much recall counts as precision.

    :raise ConfigError: if that is no finite number > 0
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ConfigError(f"fbeta: beta must be a finite number > 0, not {value!r}", ("beta",))
    return value


def name_of_beta(beta: float) -> str:
    """Return what a score is called after its ``beta``: ``f1``, ``f2``, ``f0.5``."""
    return f"f{int(beta) if beta == int(beta) else beta}"


def read_choice(name: str, option: str, value: Any, choices: Iterable[str]) -> str:
    """Return one of several words.

    :param name: the metric, for messages
    :raise ConfigError: for anything else, with the nearest choice
    """
    known = list(choices)
    if not isinstance(value, str) or value not in known:
        raise ConfigError(f"metric {name!r}: unknown {option} {value!r}{nearest(str(value), known)}", (option,))
    return value
