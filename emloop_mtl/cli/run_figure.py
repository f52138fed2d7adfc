"""Draws the numbers of runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

from ..utils.figure import COLORS, new_figure
from .curve_axes import draw_curve, set_axes
from .figure_grid import arrange
from .line import Line
from .look import Look
from .panel import Panel
from .run_curves import RunCurves
from .shortened import shortened
from .time_panels import draw_times, legend_above

WIDTH, HEIGHT = 3.4, 2.3
"""Inches of a panel."""

LEAST_WIDTH = 6.0
"""Inches of a figure."""

SCREEN = 130
"""Pixels to an inch in PNG files."""

LETTERS = 14
"""Characters of the legend to an inch."""

LONGEST_TITLE, LONGEST_NAME = 40, 14
"""Characters of a title, and of a run beside its bar."""

MOST_NAMED = 24
"""Runs that the legend names."""

MOST_RATES = 4
"""Groups of parameters whose learning rates are told apart."""

SHADE = 0.15
"""The opacity of a range."""

STYLES: Mapping[str, Any] = {"train": "--", "valid": "-", "test": ":"}
OTHER_STYLES = ("-.", (0, (8, 2)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 3)))
"""How lines of the usual streams are drawn, and of others in turn."""

GRAY = "#555555"

SETTINGS: Any = {
    "text.parse_math": False,  # a dollar in a name is a dollar
    "font.size": 8,
    "axes.titlesize": 9,
    "legend.fontsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.4,
    "lines.markersize": 3.5,
    "svg.fonttype": "none",  # texts stay texts: they can be found, and read in fonts that have their letters
    "pdf.fonttype": 42,
}


@contextmanager
def drawing() -> Iterator[None]:
    """A context in which figures look the same whatever the user has set for matplotlib."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        yield


class RunFigure:
    """A figure with a panel for each number, one for the learning rates and one for the times.

    :param runs: the runs
    :param names: what they are called beside their bars
    :param labels: what tells them apart in the legend
    :param panels: the numbers
    :param rates: the learning rates, the lines of a run by group; without lines they are left out
    :param has_times: whether to draw where the time went
    :param look: how numbers are drawn
    """

    def __init__(
        self,
        runs: Sequence[RunCurves],
        names: Sequence[str],
        labels: Sequence[str],
        panels: Sequence[Panel],
        rates: Panel,
        has_times: bool,
        look: Look,
    ) -> None:
        self._runs = runs
        self._names = [shortened(name, LONGEST_NAME) for name in names]
        self._labels = labels
        self._panels = panels
        self._rates = rates
        self._has_times = has_times
        self._look = look
        self._limits = _limits([*panels, rates])
        self._styles = _styles(dict.fromkeys(line.stream for panel in panels for line in panel.lines))
        self._colors = _colors(len(runs) if len(runs) > 1 else len(self._styles))
        self._has_gaps = False
        self._has_ranges = False

    def draw(self) -> Any:
        """Return the figure; to be called, and the figure saved, in ``drawing``."""
        groups = [
            list(members)
            for _, members in groupby(self._panels, key=lambda panel: "" if panel.is_of_all else panel.group)
        ]
        if not groups or not groups[0][0].is_of_all:
            groups.insert(0, [])
        groups[0] += [self._rates] if self._rates.lines else []
        sizes = [len(groups[0]) + self._has_times, *map(len, groups[1:])]
        rows, columns, places = arrange(sizes)
        width = max(LEAST_WIDTH, columns * WIDTH)
        figure = new_figure((width, rows * HEIGHT + 0.7), layout="constrained", dpi=SCREEN)
        grid = figure.add_gridspec(rows, columns)
        if self._has_times:
            draw_times(figure.add_subplot(grid[places.pop(len(groups[0]))]), self._runs, self._names)
        panels = [panel for group in groups for panel in group]
        for (row, column), panel in zip(places, panels, strict=True):
            axes = figure.add_subplot(grid[row, column])
            if panel is self._rates:
                self._draw_rates(axes)
            else:
                self._draw_panel(axes, panel)
            if (row + 1, column) not in places:
                axes.set_xlabel(self._look.axis)
        self._add_legend(figure, int(LETTERS * width))
        return figure

    def _draw_panel(self, axes: Any, panel: Panel) -> None:
        axes.set_title(shortened(panel.title, LONGEST_TITLE))
        fewest: dict[tuple[int, str], int] = {}
        for line in panel.lines:
            key = line.run, line.stream
            fewest[key] = min(len(line.curve), fewest.get(key, len(line.curve)))
        for line in sorted(panel.lines, key=lambda line: -len(line.curve)):
            color, style = self._pen(line)
            if line.low is not None and line.high is not None:
                axes.fill_between(line.low.x, line.low.y, line.high.y, color=color, alpha=SHADE, linewidth=0)
                self._has_ranges = True
            curve = line.curve
            if self._look.smooth:
                draw_curve(axes, curve, color, style, is_behind=True)
                curve = curve.smoothed(self._look.smooth)
            # the losses of steps lie behind those of epochs
            is_behind = len(curve) > fewest[line.run, line.stream]
            self._has_gaps |= draw_curve(axes, curve, color, style, is_behind)
        is_log = self._look.log and panel.is_loss and any((line.curve.y > 0).any() for line in panel.lines)
        set_axes(axes, self._limits, is_log)

    def _draw_rates(self, axes: Any) -> None:
        names = list(dict.fromkeys(line.stream for line in self._rates.lines))
        are_told = 1 < len(names) <= MOST_RATES
        styles: list[Any] = ["-", "--", ":", "-."] if are_told else ["-"] * len(names)
        for line in self._rates.lines:
            index = names.index(line.stream)
            color = self._colors[line.run] if len(self._runs) > 1 else COLORS[index * are_told]
            draw_curve(axes, line.curve, color, styles[index])
        title = "learning rate" if len(names) == 1 else f"learning rates of {len(names)} groups"
        axes.set_title(title, pad=16 if are_told else None)
        if are_told:
            from matplotlib.lines import Line2D

            colors = [GRAY] * len(names) if len(self._runs) > 1 else COLORS
            handles = [
                Line2D([], [], color=color, linestyle=style) for color, style in zip(colors, styles, strict=False)
            ]
            legend_above(axes, handles, names)
        set_axes(axes, self._limits, is_log=False)

    def _pen(self, line: Line) -> tuple[Any, Any]:
        """Return colour and style of a line: runs differ in colour, and so do the streams of a single one."""
        index = line.run if len(self._runs) > 1 else list(self._styles).index(line.stream)
        return self._colors[index], self._styles[line.stream]

    def _add_legend(self, figure: Any, letters: int) -> None:
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch

        handles: list[Any] = []
        labels: list[str] = []
        if len(self._runs) > 1:
            handles = [Line2D([], [], color=color, linewidth=3) for color in self._colors[:MOST_NAMED]]
            labels = [shortened(label, letters) for label in self._labels[:MOST_NAMED]]
            if (more := len(self._runs) - MOST_NAMED) > 0:
                handles.append(Line2D([], [], linestyle=""))
                labels.append(f"… and {more} more")
        for index, (stream, style) in enumerate(self._styles.items()):
            if stream:
                color = GRAY if len(self._runs) > 1 else self._colors[index]
                handles.append(Line2D([], [], color=color, linestyle=style))
                labels.append(shortened(stream, LONGEST_TITLE))
        if self._has_ranges:
            handles.append(Patch(color=GRAY, alpha=2 * SHADE, linewidth=0))
            labels.append("least to greatest of the tasks; the line is their median")
        if self._has_gaps:
            handles.append(Line2D([], [], color=GRAY, linestyle="", marker="x"))
            labels.append("not finite from here")
        columns = max(1, min(len(handles), letters // (max(map(len, labels), default=0) + 6)))
        title = shortened(self._labels[0], letters) if len(self._runs) == 1 else None
        figure.legend(
            handles,
            labels,
            loc="outside upper center",
            ncols=columns,
            frameon=False,
            handlelength=2.6,
            title=title,
            title_fontproperties={"size": 10, "weight": "bold"},
        )


def _styles(streams: Iterable[str]) -> dict[str, Any]:
    """Return how lines of streams are drawn, the usual ones first."""
    streams = list(streams)
    styles = {stream: style for stream, style in STYLES.items() if stream in streams}
    others = [stream for stream in streams if stream and stream not in STYLES]
    styles |= {stream: OTHER_STYLES[index % len(OTHER_STYLES)] for index, stream in enumerate(others)}
    return styles | ({"": "-"} if "" in streams else {})


def _colors(number: int) -> Sequence[Any]:
    """Return as many colours: those that are easiest to tell apart, or steps from dark to light."""
    if number <= len(COLORS):
        return COLORS[:number]
    from matplotlib import colormaps

    return [colormaps["viridis"](0.95 * index / (number - 1)) for index in range(number)]


def _limits(panels: Iterable[Panel]) -> tuple[float, float]:
    """Return the ends of the horizontal axis that all panels have."""
    ends = [end for panel in panels for line in panel.lines for end in (line.curve.x[0], line.curve.x[-1])]
    low, high = min(ends, default=0.0), max(ends, default=0.0)
    margin = 0.03 * (high - low) or 0.5
    return float(low - margin), float(high + margin)
