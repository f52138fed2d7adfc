"""Telling where an error came from that somebody else's code has raised."""

from __future__ import annotations

from ..errors import EmloopError


def note_place(error: Exception, place: str) -> None:
    """Add a place to an error, from the inside to the outside; our own say theirs in their text.

    :param error: the error
    :param place: such as ``loader 'digits'``
    """
    if not isinstance(error, EmloopError):
        error.add_note(f"in {place}")
