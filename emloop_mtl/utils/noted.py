"""Notes on errors that somebody else's code has raised."""

from __future__ import annotations

from contextlib import suppress


def noted(error: Exception, note: str) -> None:
    """Add a note to an error, unless its class allows none, as that of a frozen dataclass."""
    with suppress(Exception):
        error.add_note(note)
