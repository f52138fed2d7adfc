"""Notes on errors that somebody else's code has raised."""

from __future__ import annotations

from contextlib import suppress


def noted(error: Exception, note: str) -> Exception:
    """Return an error with a note; without, where its class allows none, as one of a frozen dataclass does not."""
    with suppress(Exception):
        error.add_note(note)
    return error
