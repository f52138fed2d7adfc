"""The clock that everything is timed with."""

from __future__ import annotations

import os
from time import perf_counter, process_time

CLOCK = "BENCHMARKS_CLOCK"
"""The environment variable that says which clock: ``cpu``, or else the one on the wall."""

now = process_time if os.environ.get(CLOCK) == "cpu" else perf_counter
