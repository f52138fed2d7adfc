"""Draws where the time of runs went."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .curve import Numbers
from .curve_axes import set_whole_ticks
from .epoch_times import PARTS, EpochTimes
from .run_curves import RunCurves

COLORS = ("#56B4E9", "#999999", "#E69F00", "#CC79A7")
"""Of the parts; those of the first runs and streams are others."""

MOST_BARS = 60
"""Epochs that have a bar each; more become areas."""

MOST_STEPS = 400
"""Of more epochs, neighbours are put together."""

MOST_RUNS = 30
"""Runs that have a bar; more would be too thin to read."""

MANY_RUNS = 12
"""Runs whose names are written smaller."""

ROOM = 16
"""Points between a panel and its title that a legend takes."""


def draw_times(axes: Any, runs: Sequence[RunCurves], names: Sequence[str]) -> None:
    """Draw what share of the time each part took: by the epochs of one run, or with a bar for each of several.

    :param names: what the runs are called
    """
    axes.grid(visible=False)
    axes.set_title("time", pad=ROOM)
    if len(runs) == 1:
        _draw_epochs(axes, runs[0].times)
    else:
        _draw_runs(axes, [(name, run.times) for name, run in zip(names, runs, strict=True) if run.times][:MOST_RUNS])
    legend_above(axes, *axes.get_legend_handles_labels())


def legend_above(axes: Any, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """Put a legend of a few words between a panel and its title, for which that leaves ``ROOM``."""
    axes.legend(
        handles,
        labels,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=len(labels),
        frameon=False,
        borderpad=0,
        borderaxespad=0.3,
        columnspacing=0.9,
        handlelength=1.2,
        handletextpad=0.4,
    )


def _draw_epochs(axes: Any, times: Sequence[EpochTimes]) -> None:
    size = -(-len(times) // MOST_STEPS)
    parts = [times[begin : begin + size] for begin in range(0, len(times), size)]
    epochs = [part[0].epoch for part in parts]
    shares = np.stack([_shares(part) for part in parts], axis=1)
    if len(times) <= MOST_BARS:
        bottom = np.zeros(len(epochs))
        for part, row, color in zip(PARTS, shares, COLORS, strict=True):
            axes.bar(epochs, row, 0.9, bottom, label=part, color=color, linewidth=0)
            bottom += row
        limits = epochs[0] - 0.6, epochs[-1] + 0.6
    else:
        axes.stackplot(epochs, shares, labels=PARTS, colors=COLORS, step="mid", linewidth=0)
        limits = epochs[0], epochs[-1]
    axes.set_ylim(0, 100)
    axes.set_xlabel("epoch")
    axes.set_ylabel("%")
    set_whole_ticks(axes, limits)


def _draw_runs(axes: Any, named: Sequence[tuple[str, Sequence[EpochTimes]]]) -> None:
    shares = np.stack([_shares(times) for _, times in named], axis=1)
    places = range(len(named))
    left = np.zeros(len(named))
    for part, row, color in zip(PARTS, shares, COLORS, strict=True):
        axes.barh(places, row, 0.8, left, label=part, color=color, linewidth=0)
        left += row
    axes.set_yticks(places, [name for name, _ in named])
    axes.tick_params(axis="y", length=0, labelsize=8 if len(named) < MANY_RUNS else 5)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("%")


def _shares(times: Sequence[EpochTimes]) -> Numbers:
    """Return the share of each part in the time of some epochs, in percent."""
    sums = np.array([sum(each.seconds[part] for each in times) for part in PARTS])
    return 100 * sums / (sums.sum() or 1.0)
