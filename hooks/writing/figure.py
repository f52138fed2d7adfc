"""Arguments and results of hooks that draw figures."""

from __future__ import annotations

from typing import Any

import numpy as np

from emloop_mtl.errors import ConfigError, nearest


def check_color_map(hook: str, argument: str, value: Any) -> str:
    """Return ``value`` if it names a color map.

    :raise ConfigError: if it does not, with the nearest that there is
    """
    from matplotlib import colormaps

    names = list(colormaps)
    if value not in names:
        raise ConfigError(f"{hook}: unknown {argument} {value!r}{nearest(str(value), names)}", (argument,))
    return str(value)


def check_figure_size(hook: str, argument: str, value: Any) -> tuple[float, float] | None:
    """Return ``value`` as a width and a height in inches, None for None.

    :raise ConfigError: if it is anything else than two numbers from 0.5 to 500
    """
    if value is None:
        return None
    sides = list(value) if isinstance(value, list | tuple) else []
    fits = [not isinstance(side, bool) and isinstance(side, int | float) and 0.5 <= side <= 500 for side in sides]
    if len(sides) != 2 or not all(fits):
        text = f"{argument} must be a width and a height from 0.5 to 500 inches, such as [6, 5], not {value!r}"
        raise ConfigError(f"{hook}: {text}", (argument,))
    return float(sides[0]), float(sides[1])


def pixels_of(figure: Any) -> np.ndarray[Any, Any]:
    """Return a figure as an array [height, width, 3] of bytes."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()
