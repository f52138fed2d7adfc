"""Trainings in which a loss is bad from some step on."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from emloop_mtl.data.batch import Batch
from emloop_mtl.hooks import StopOnNaN
from emloop_mtl.testing import RecordEvents, run_hook

NAN, INF = math.nan, math.inf


def in_step(step: int, bad: Any, good: Any = 1.0) -> Callable[[Batch], Any]:
    """Return an output that is ``bad`` from the given run of the model on, counted from 1, and ``good`` before."""
    runs = iter(range(1, 10**6))
    return lambda batch: bad if next(runs) >= step else good


def run(hook: StopOnNaN, loss: Any, epochs: int = 2, **main_loop: Any) -> RecordEvents:
    return run_hook(hook, outputs={"loss": loss}, epochs=epochs, skip_zeroth_epoch=True, **main_loop)
