"""One measurement: a job is plain data, so that it can be done in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

Job = dict[str, Any]
Result = dict[str, Any]

ROOT = Path(__file__).parents[1]
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def in_process(job: Job) -> Result:
    """Do a job in a process of its own."""
    command = [sys.executable, "-m", "benchmarks", "--job", json.dumps(job)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | ONE_THREAD, check=True, stdout=subprocess.PIPE, text=True, timeout=600
    )
    result: Result = json.loads(done.stdout.splitlines()[-1])
    return result


def here(job: Job) -> Result:
    """Do a job in this process."""
    kinds: dict[str, Callable[..., Result]] = {"train": _train, "score": _score, "hooks": _hooks}
    with TemporaryDirectory(prefix="emloop_mtl_benchmark_") as folder:
        return kinds[job["job"]](Path(folder), **job["arguments"])


def train_job(kind: str, workload: str, optimizer: str, steps: int, epochs: int, more_tasks: int = 0) -> Job:
    """Train.

    :param kind: ``by hand``, ``by hand, fused`` or ``engine``
    :param more_tasks: tasks that no batch carries
    """
    arguments = {"kind": kind, "workload": workload, "optimizer": optimizer, "steps": steps, "epochs": epochs}
    return {"job": "train", "arguments": arguments | {"more_tasks": more_tasks}}


def score_job(kind: str, samples: int) -> Job:
    """Score four tasks.

    :param kind: one of ``scoring.KINDS``
    :param samples: samples of each task
    """
    return {"job": "score", "arguments": {"kind": kind, "samples": samples}}


def hooks_job(kind: str, count: int, steps: int, epochs: int) -> Job:
    """Train workload A with more hooks.

    :param kind: ``none`` for no more hooks, ``empty`` for ones without events, ``pass`` for ones whose ``after_batch``
        does nothing
    :param count: how many
    """
    return {"job": "hooks", "arguments": {"kind": kind, "count": count, "steps": steps, "epochs": epochs}}


def _train(folder: Path, kind: str, workload: str, optimizer: str, steps: int, epochs: int, more_tasks: int) -> Result:
    from . import by_hand, engine
    from .workloads import WORKLOADS

    work = WORKLOADS[workload]
    if kind == "engine":
        found = engine.train(work, optimizer, steps, epochs, folder, more_tasks=more_tasks)
    else:
        fused = True if kind == "by hand, fused" else None
        found = by_hand.train(work, optimizer, steps, epochs, folder, fused, more_tasks=more_tasks)
    return {
        "microseconds": 1e6 * min(found.train_seconds) / steps,
        "epoch_microseconds": 1e6 * min(found.epoch_seconds) / steps,
        "loss": found.losses[-1],
        "weights": found.fingerprint(),
    }


def _score(folder: Path, kind: str, samples: int) -> Result:
    from .scoring import score

    return score(kind, samples, folder)


def _hooks(folder: Path, kind: str, count: int, steps: int, epochs: int) -> Result:
    from emloop_mtl import AbstractHook

    from . import engine
    from .workloads import WORKLOADS

    class Empty(AbstractHook):
        """Overrides nothing."""

    class Pass(AbstractHook):
        """Does nothing."""

        def after_batch(self, stream_name: str, batch_data: Any) -> None:
            pass

    hooks = [] if kind == "none" else [{"empty": Empty, "pass": Pass}[kind]() for _ in range(count)]
    found = engine.train(WORKLOADS["A"], "sgd", steps, epochs, folder, hooks)
    return {"microseconds": 1e6 * min(found.train_seconds) / steps}
