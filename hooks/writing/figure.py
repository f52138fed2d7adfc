"""Figures of matplotlib, drawn without a window and without touching its global state."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from emloop_mtl.errors import ConfigError, nearest
from emloop_mtl.utils.files import write_atomically


def check_matplotlib(hook: str) -> None:
    """Check that matplotlib is installed.

    :param hook: name of the hook, for the error
    :raise ConfigError: naming the extra, if it is not
    """
    try:
        import matplotlib  # noqa: F401 - here: takes time, and most runs draw nothing
    except ImportError as error:
        raise ConfigError(f"{hook} needs matplotlib: pip install 'emloop_mtl[plot]'") from error


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


def new_figure(size: Sequence[float] | None = None) -> Any:
    """Return an empty figure.

    :param size: width and height in inches
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=None if size is None else (size[0], size[1]))
    FigureCanvasAgg(figure)
    return figure


def pixels_of(figure: Any) -> np.ndarray[Any, Any]:
    """Return a figure as an array [height, width, 3] of bytes."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def save_figure(hook: str, figure: Any, path: Path) -> None:
    """Save a figure in the format of the path's suffix, as a whole or not at all.

    :raise OSError: naming the hook and the file
    """
    content = BytesIO()
    figure.savefig(content, format=path.suffix[1:])
    try:
        write_atomically(path, content.getvalue())
    except OSError as error:
        raise OSError(error.errno, f"{hook}: {error.strerror}", str(path)) from error
