"""What one loader gives to a source of a mixed batch."""

from __future__ import annotations

from typing import Any, NamedTuple


class Piece(NamedTuple):
    """Some rows of a loader: their number, and their values, or whether there are none."""

    loader: str
    size: int
    value: Any
    is_held: bool
