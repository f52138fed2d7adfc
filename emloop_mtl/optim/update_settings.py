"""What can be set of an update."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, get_args

from ..errors import ConfigError, nearest

Reduction: TypeAlias = Literal["mean", "sum"]

OnNan: TypeAlias = Literal["error", "skip", "warn"]

REDUCTIONS: tuple[Reduction, ...] = get_args(Reduction)

ON_NAN: tuple[OnNan, ...] = get_args(OnNan)

NAMES = ("clip_norm", "accumulate", "accumulate_reduction", "on_nan")


def check_names(settings: Mapping[str, Any]) -> None:
    """Check the names of settings.

    :raise ConfigError: for an unknown one, with the nearest
    """
    for key in settings:
        if key not in NAMES:
            raise ConfigError(f"update: unknown argument {key!r}{nearest(key, NAMES)}", ("update", key))


def check_values(clip_norm: Any, accumulate: Any, accumulate_reduction: Any, on_nan: Any) -> None:
    """Check the values of settings.

    :raise ConfigError: for one that is out of range
    """
    if clip_norm is not None and not (_is(float, clip_norm) and 0 < clip_norm < math.inf):
        text = f"update.clip_norm must be a number greater than 0, not {clip_norm!r}"
        raise ConfigError(text, ("update", "clip_norm"))
    if not _is(int, accumulate) or accumulate < 1:
        text = f"update.accumulate must be a whole number, 1 or more, not {accumulate!r}"
        raise ConfigError(text, ("update", "accumulate"))
    if accumulate_reduction not in REDUCTIONS:
        text = f"update.accumulate_reduction must be one of {', '.join(REDUCTIONS)}, not {accumulate_reduction!r}"
        raise ConfigError(text, ("update", "accumulate_reduction"))
    if on_nan is not None and on_nan not in ON_NAN:
        text = f"update.on_nan must be one of {', '.join(ON_NAN)}, or be left out, not {on_nan!r}"
        raise ConfigError(text, ("update", "on_nan"))


def _is(kind: type[int] | type[float], value: Any) -> bool:
    return isinstance(value, int | kind) and not isinstance(value, bool)
