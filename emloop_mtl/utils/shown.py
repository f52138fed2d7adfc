"""Values in messages."""

from __future__ import annotations

MOST = 100
"""Characters that are shown of a value."""


def shown(value: object) -> str:
    """Return what a value looks like, in one short line, whatever it is."""
    text = " ".join(repr(value).split())
    return text if len(text) <= MOST else f"{text[:MOST]}…"
