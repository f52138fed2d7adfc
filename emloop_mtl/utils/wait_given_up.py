"""The end of a wait that a signal has cut short."""

from __future__ import annotations


class WaitGivenUp(KeyboardInterrupt):
    """Nothing has come for a while since a signal has asked for the end."""
