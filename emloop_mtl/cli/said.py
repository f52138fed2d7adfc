"""What processes have said, and how they have ended."""

from __future__ import annotations

import signal
from pathlib import Path

from ..utils.caught_signals import CAUGHT
from .reporting import HINT, SIGNAL_BASE
from .shortened import shortened

LONGEST = 500
"""Characters of a reason."""


def last_line(path: Path) -> str:
    """Return the last line with words in it that a process has said."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except FileNotFoundError:  # it has ended before it could say anything
        lines = []
    return next((line for line in reversed(lines) if line.strip()), "it said nothing")


def why_failed(code: int, said: Path) -> str:
    """Return why a process has not done what it was to do, in a line.

    :param code: its exit code, less than 0 for the signal that has ended it
    :param said: the file that has got what it said
    """
    if code < 0:
        killed = f"killed by {_name(-code)}"
        return f"{killed}, as the system does when memory runs out" if -code == signal.SIGKILL else killed
    if code - SIGNAL_BASE in CAUGHT:
        return f"interrupted by {_name(code - SIGNAL_BASE)}"
    return shortened(last_line(said).removeprefix("error: ").removesuffix(HINT), LONGEST)


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # one of those for real time, which have no names
        return f"signal {number}"
