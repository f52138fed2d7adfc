"""How one number went in a training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Numbers = np.ndarray[Any, np.dtype[np.float64]]

MOST_POINTS = 1500
"""Of more points than these a line is drawn through the least and the greatest of neighbours; it looks the same."""

HUGE = 1e200
"""Greater numbers would overflow where axes are laid out; they count as infinite."""


@dataclass
class Curve:
    """Values of a number by the step; one that is not finite is nan.

    :param x: where the values are, rising
    :param y: the values
    """

    x: Numbers
    y: Numbers

    @classmethod
    def of(cls, points: Mapping[int, float]) -> Curve:
        """Make a curve from values by step, whatever order they have come in."""
        steps = sorted(points)
        y = np.array([points[step] for step in steps], np.float64)
        y[~(np.abs(y) <= HUGE)] = np.nan
        return cls(np.array(steps, np.float64), y)

    def __len__(self) -> int:
        return len(self.x)

    @property
    def gaps(self) -> Numbers:
        """Where values begin not to be finite."""
        missing = np.isnan(self.y)
        begins: Numbers = self.x[missing & ~np.concatenate([[False], missing[:-1]])]
        return begins

    @property
    def lonely(self) -> Curve:
        """The values of which no neighbour is finite: no line leads to them."""
        there = np.isfinite(self.y)
        beside = np.concatenate([[False], there[:-1]]) | np.concatenate([there[1:], [False]])
        chosen = there & ~beside
        return Curve(self.x[chosen], self.y[chosen])

    def smoothed(self, weight: float) -> Curve:
        """Return running means in which each earlier value counts ``weight`` as much as the one after it."""
        smooth, total, count = np.full_like(self.y, np.nan), 0.0, 0.0
        for index, value in enumerate(self.y.tolist()):
            if value == value:
                total, count = weight * total + value, weight * count + 1
                smooth[index] = total / count
        return Curve(self.x, smooth)

    def thinned(self) -> Curve:
        """Return a curve that looks the same, of no more than some 1500 points."""
        size = -(-2 * len(self) // MOST_POINTS)
        if size < 3:  # two of two are all
            return self
        kept: list[int] = []
        for begin in range(0, len(self), size):
            part = self.y[begin : begin + size]
            chosen = {0, len(part) - 1} if begin == 0 or begin + size >= len(self) else set()
            chosen.update(np.flatnonzero(np.isnan(part))[:1].tolist())
            if not np.isnan(part).all():
                chosen |= {int(np.nanargmin(part)), int(np.nanargmax(part))}
            kept += [begin + index for index in sorted(chosen)]
        return Curve(self.x[kept], self.y[kept])
