"""A line of a figure."""

from __future__ import annotations

from typing import NamedTuple

from .curve import Curve


class Line(NamedTuple):
    """A curve of one run and stream; that of several tasks has bounds between which theirs lie."""

    run: int
    stream: str
    curve: Curve
    low: Curve | None = None
    high: Curve | None = None
