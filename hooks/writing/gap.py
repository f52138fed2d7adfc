"""Gaps in paths."""

from __future__ import annotations

from typing import NamedTuple


class Gap(NamedTuple):
    """A part of a path that is not known beforehand: a regular expression, and an example of what may stand there."""

    pattern: str
    example: str
