"""Draws curves, and what stands at the axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .curve import Curve
from .tick_texts import step_text, tick_texts

FEW = 25
"""Points of a line, up to which each is marked."""

FAINT = 0.35
"""The opacity of a line that lies behind another one."""

TICKS = 6
STEPS = (1, 2, 2.5, 5, 10)
"""How ticks may lie apart, but for powers of ten."""

DECADES = 3.0
"""Powers of ten on a logarithmic axis from which on it has no ticks between them."""

NEAR = 0.6
"""Powers of ten below which its ticks are those of a linear axis: there would be one or none."""

TOP = 0.97
"""Where in a panel it is marked that a number is not finite."""


def draw_curve(axes: Any, curve: Curve, color: Any, style: Any, is_behind: bool = False) -> bool:
    """Draw a curve, with a mark at the top where it ceases to be finite.

    :param is_behind: whether it is faint, for another one before it tells the same
    :return: whether there are such marks
    """
    shown = curve.thinned()
    if is_behind:
        axes.plot(shown.x, shown.y, color=color, linestyle="-", linewidth=0.8, alpha=FAINT)
        return False
    is_short = len(curve) <= FEW
    axes.plot(shown.x, shown.y, color=color, linestyle=style, marker="o" if is_short else "")
    lonely = curve.lonely
    if len(lonely) and not is_short:
        axes.plot(lonely.x, lonely.y, color=color, linestyle="", marker="o")
    gaps = curve.gaps
    if len(gaps):
        heights = np.full(len(gaps), TOP)
        axes.plot(gaps, heights, color=color, linestyle="", marker="x", transform=axes.get_xaxis_transform())
    return bool(len(gaps))


def set_axes(axes: Any, limits: tuple[float, float], is_log: bool) -> None:
    """Set limits, scale and ticks of a panel in which everything is drawn.

    :param limits: of the horizontal axis
    :param is_log: whether the vertical axis is logarithmic
    """
    from matplotlib.ticker import MaxNLocator

    set_whole_ticks(axes, limits)
    if is_log:
        axes.set_yscale("log", nonpositive="mask")
        axes.minorticks_off()
    ends = axes.get_ylim()
    places = _inside(_log_ticks(ends) if is_log else MaxNLocator(TICKS, steps=STEPS).tick_values(*ends), ends)
    axes.set_yticks(
        places, [text for place in places for text in tick_texts([place])] if is_log else tick_texts(places)
    )


def set_whole_ticks(axes: Any, limits: tuple[float, float]) -> None:
    """Set the ends of a horizontal axis, and ticks at whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlim(*limits)
    places = [place for place in MaxNLocator(TICKS, steps=STEPS).tick_values(*limits) if place == round(place)]
    places = _inside(places, limits) or [math.ceil(limits[0])]
    axes.set_xticks(places, [step_text(place) for place in places])


def _log_ticks(ends: tuple[float, float]) -> Sequence[float]:
    from matplotlib.ticker import LogLocator, MaxNLocator

    decades = math.log10(ends[1]) - math.log10(ends[0])
    if decades < NEAR:
        ticks: Sequence[float] = MaxNLocator(TICKS, steps=STEPS).tick_values(*ends)
    else:
        ticks = LogLocator(subs=(1.0,) if decades > DECADES else (1.0, 2.0, 5.0), numticks=2 * TICKS).tick_values(*ends)
    return ticks


def _inside(places: Sequence[float], ends: tuple[float, float]) -> list[float]:
    low, high = min(ends), max(ends)
    return [float(place) for place in places if low <= place <= high]
