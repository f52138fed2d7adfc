"""An argument of a backbone or a head, and what it gets."""

from __future__ import annotations

from typing import NamedTuple


class Given(NamedTuple):
    """An argument and what it gets."""

    argument: str
    name: str
    """A source, or a part of what the backbone returns."""
    is_encoded: bool
    """Whether the backbone returns it."""
