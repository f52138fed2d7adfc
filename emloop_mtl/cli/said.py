"""What processes have said, and how they have ended."""

from __future__ import annotations

import signal
from pathlib import Path


def last_line(path: Path) -> str:
    """Return the last line with words in it that a process has said."""
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "it said nothing")


def killed_by(code: int) -> str:
    """Return which signal has ended a process.

    :param code: its exit code, which is less than 0
    """
    try:
        name = signal.Signals(-code).name
    except ValueError:  # one of those for real time, which have no names
        name = f"signal {-code}"
    return f"killed by {name}{', as the system does when memory runs out' if -code == signal.SIGKILL else ''}"
