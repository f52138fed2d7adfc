"""How long importing takes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter

from .jobs import ONE_THREAD

CODE = """
import time, torch
began = time.perf_counter()
import emloop_mtl
imported = time.perf_counter()
from emloop_mtl import *
from emloop_mtl.hooks import *
print(imported - began, time.perf_counter() - began)
"""
"""The public names are imported when they are first used; at the end all of them have been."""


def beyond_torch(times: int) -> tuple[list[float], list[float]]:
    """Return, for each of some processes that have imported torch, the seconds of an import: bare, and of all names."""
    found = [_run([sys.executable, "-c", CODE]).split() for _ in range(times)]
    return [float(bare) for bare, _ in found], [float(every) for _, every in found]


def help_text(times: int) -> list[float]:
    """Return, for each of some processes, the seconds of ``emloop-mtl --help``, the start of Python included."""
    seconds = []
    for _ in range(times):
        began = perf_counter()
        _run([str(Path(sys.executable).with_name("emloop-mtl")), "--help"])
        seconds.append(perf_counter() - began)
    return seconds


def _run(command: list[str]) -> str:
    environment = os.environ | ONE_THREAD
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package is compiled
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=120).stdout
