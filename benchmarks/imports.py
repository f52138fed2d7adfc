"""How long importing takes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from time import perf_counter

from .jobs import ONE_THREAD

PACKAGE = "import emloop_mtl"
EVERYTHING = "from emloop_mtl import *; from emloop_mtl.hooks import *"
"""Public names are imported when they are first used; this uses them all."""


def beyond_torch(statement: str, times: int) -> list[float]:
    """Return, for each of some processes that have imported torch, the seconds of an import."""
    code = f"import time, torch; began = time.perf_counter()\n{statement}\nprint(time.perf_counter() - began)"
    return [float(_run([sys.executable, "-c", code])) for _ in range(times)]


def help_text(times: int) -> list[float]:
    """Return, for each of some processes, the seconds of ``emloop-mtl --help``, the start of Python included."""
    seconds = []
    for _ in range(times):
        began = perf_counter()
        _run([str(Path(sys.executable).with_name("emloop-mtl")), "--help"])
        seconds.append(perf_counter() - began)
    return seconds


def middle(seconds: list[float]) -> float:
    """Return the median in seconds, of all but the first, which reads files from disk."""
    return median(seconds[1:] or seconds)


def _run(command: list[str]) -> str:
    environment = os.environ | ONE_THREAD
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=120).stdout
