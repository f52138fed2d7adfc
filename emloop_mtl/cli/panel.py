"""Which curves stand together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from .curve import Curve
from .line import Line
from .number_name import NumberName

AVERAGES = "model"
"""What numbers of all tasks together have in the place of the task."""


@dataclass
class Panel:
    """The curves of one number.

    :param group: whose it is: a task, or empty
    :param metric: what it is called there
    :param lines: of all runs and streams
    :param is_loss: whether it is a loss
    """

    group: str
    metric: str
    is_loss: bool
    lines: list[Line] = field(default_factory=list)

    @property
    def is_of_all(self) -> bool:
        """Whether it is of no single task."""
        return self.group in ("", AVERAGES)

    @property
    def title(self) -> str:
        """What stands above it."""
        return f"{self.group} · {self.metric}" if self.group else self.metric


Named = tuple[int, NumberName, Curve]
"""A run by its number, the name of a number, and how it went."""


def arranged(curves: Iterable[Named]) -> list[Panel]:
    """Return a panel for each number of each task: what is of no task first, losses before scores.

    Where a stream has several data sets of a task, each of them has panels of its own.
    """
    curves = list(curves)
    datas: dict[tuple[str, str], set[str]] = {}
    for _, name, _ in curves:
        if name.data:
            datas.setdefault((name.task, name.stream), set()).add(name.data)
    parted = {task for (task, _), several in datas.items() if len(several) > 1}
    panels: dict[tuple[str, str], Panel] = {}
    for run, name, curve in curves:
        group = f"{name.task}/{name.data}" if name.data and name.task in parted else name.task
        panel = panels.setdefault((group, name.metric), Panel(group, name.metric, name.is_loss))
        panel.lines.append(Line(run, name.stream, curve))
    groups = list(dict.fromkeys(group for group, _ in panels))
    return sorted(
        panels.values(),
        key=lambda panel: (not panel.is_of_all, bool(panel.group), groups.index(panel.group), not panel.is_loss),
    )


def united(panels: Sequence[Panel]) -> list[Panel]:
    """Return a panel for each metric, in which a line is the median of all tasks, with their range around it."""
    metrics: dict[tuple[bool, str], list[Panel]] = {}
    for panel in panels:
        metrics.setdefault((panel.is_of_all, panel.title if panel.is_of_all else panel.metric), []).append(panel)
    found = []
    for (is_of_all, metric), members in metrics.items():
        if is_of_all or len(members) == 1:
            found += members
            continue
        whole = Panel("", f"{metric} of {len(members)} tasks", members[0].is_loss)
        kinds = dict.fromkeys((line.run, line.stream) for member in members for line in member.lines)
        for run, stream in kinds:
            curves = [
                line.curve for member in members for line in member.lines if (line.run, line.stream) == (run, stream)
            ]
            whole.lines.append(_middle(run, stream, curves))
        found.append(whole)
    return found


def _middle(run: int, stream: str, curves: Sequence[Curve]) -> Line:
    x = np.unique(np.concatenate([curve.x for curve in curves]))
    values = np.full((len(curves), len(x)), np.nan)
    for row, curve in zip(values, curves, strict=True):
        row[np.searchsorted(x, curve.x)] = curve.y
    is_empty = np.isnan(values).all(axis=0)
    values[:, is_empty] = 0.0  # numpy warns of medians of nothing
    low, middle, high = np.nanmin(values, axis=0), np.nanmedian(values, axis=0), np.nanmax(values, axis=0)
    for each in (low, middle, high):
        each[is_empty] = np.nan
    return Line(run, stream, Curve(x, middle), Curve(x, low), Curve(x, high))
