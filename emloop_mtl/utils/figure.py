"""Figures of matplotlib, drawn without a window and without touching its global state."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .files import write_atomically

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Of lines side by side; people who see few colours can tell them apart. By Okabe and Ito, without their yellow, which
is too pale on white."""

SALT = "emloop_mtl"
"""What names in SVG files are made from instead of random numbers."""

UNDATED = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
"""What each format has to leave out, so that equal figures are equal files."""


def check_matplotlib(owner: str) -> None:
    """Check that matplotlib is installed.

    :param owner: what draws, for the error
    :raise ConfigError: naming the extra, if it is not
    """
    try:
        import matplotlib  # noqa: F401 - here: takes time, and most runs draw nothing
    except ImportError as error:
        raise ConfigError(f"{owner} needs matplotlib: pip install 'emloop_mtl[plot]'") from error


def new_figure(size: Sequence[float] | None = None, **settings: Any) -> Any:
    """Return an empty figure.

    :param size: width and height in inches
    :param settings: further arguments of matplotlib's ``Figure``
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=None if size is None else (size[0], size[1]), **settings)
    FigureCanvasAgg(figure)
    return figure


def save_figure(owner: str, figure: Any, path: Path) -> None:
    """Save a figure in the format of the path's suffix, as a whole or not at all; equal figures give equal files.

    :param owner: what draws, for the error
    :raise OSError: naming what draws and the file
    """
    from matplotlib import rc_context

    content = BytesIO()
    kind = path.suffix[1:].lower()
    with rc_context({"svg.hashsalt": SALT}):
        figure.savefig(content, format=kind, metadata=UNDATED.get(kind))
    try:
        write_atomically(path, content.getvalue())
    except OSError as error:
        raise OSError(error.errno, f"{owner}: {error.strerror}", str(path)) from error
