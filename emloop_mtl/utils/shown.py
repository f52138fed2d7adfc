"""Values in messages."""

from __future__ import annotations

import os

MOST = 100
"""Characters that are shown of a value."""


def shown(value: object) -> str:
    """Return what a value looks like, in one short line, whatever it is."""
    text = " ".join(repr(value).split())
    return text if len(text) <= MOST else f"{text[:MOST]}…"


def printable(name: object) -> str:
    """Return a name in which bytes that are no UTF-8, and characters that a terminal would obey, are spelt out."""
    text = str(name)
    try:
        text = os.fsencode(text).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half a character, which no file can have in its name, but JSON in its texts
        text = text.encode("utf-8", "backslashreplace").decode()
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
