"""One measurement: a job is plain data, so that it can be done in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

Job = dict[str, Any]
Result = dict[str, Any]
Run: TypeAlias = Callable[[Job], Result]

ROOT = Path(__file__).parents[1]
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def in_process(job: Job) -> Result:
    """Do a job in a process of its own."""
    command = [job.get("python", sys.executable), "-m", "benchmarks.jobs", json.dumps(job)]
    environment = os.environ | ONE_THREAD
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{job} failed:\n{done.stderr}")
    result: Result = json.loads(done.stdout.splitlines()[-1])
    return result


def here(job: Job) -> Result:
    """Do a job in this process."""
    kinds: dict[str, Callable[..., Result]] = {
        "train": _train,
        "score": _score,
        "hooks": _hooks,
        "draw": _draw,
        "peer": _peer,
    }
    with TemporaryDirectory(prefix="emloop_mtl_benchmark_") as folder:
        return kinds[job["job"]](Path(folder), **job["arguments"])


def in_turns(run: Run, jobs: Mapping[str, Job], rounds: int) -> dict[str, list[Result]]:
    """Do every job once per round, so that whatever else the machine does meets all alike; the order alternates."""
    found: dict[str, list[Result]] = {kind: [] for kind in jobs}
    for turn in range(rounds):
        for kind in list(jobs) if turn % 2 == 0 else list(jobs)[::-1]:
            found[kind].append(run(jobs[kind]))
    return found


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


def draw_job(kind: str, draws: int) -> Job:
    """Draw loaders by a task scheduler.

    :param kind: one of ``draws.KINDS``
    :param draws: how many in a pass
    """
    return {"job": "draw", "arguments": {"kind": kind, "draws": draws}}


def peer_job(python: str, peer: str, workload: str, steps: int, epochs: int) -> Job:
    """Train by another library.

    :param python: the interpreter that has it
    :param peer: one of ``peers.PEERS``
    """
    arguments = {"peer": peer, "workload": workload, "steps": steps, "epochs": epochs}
    return {"job": "peer", "python": python, "arguments": arguments}


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
        """Does nothing, and reads nothing, so that nothing is computed for it."""

        def requires(self) -> tuple[str, ...]:
            return ()

        def after_batch(self, stream_name: str, batch_data: Any) -> None:
            pass

    hooks = [] if kind == "none" else [{"empty": Empty, "pass": Pass}[kind]() for _ in range(count)]
    found = engine.train(WORKLOADS["A"], "sgd", steps, epochs, folder, hooks)
    return {"microseconds": 1e6 * min(found.train_seconds) / steps}


def _draw(folder: Path, kind: str, draws: int) -> Result:
    from .draws import draw

    return draw(kind, draws)


def _peer(folder: Path, peer: str, workload: str, steps: int, epochs: int) -> Result:
    from importlib import import_module

    import torch

    from .workloads import WORKLOADS

    torch.set_num_threads(1)
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        found = import_module(f".peers.{peer}", __package__).train(WORKLOADS[workload], steps, epochs, folder)
    return {
        "microseconds": 1e6 * min(found.train_seconds) / found.steps,
        "loss": found.losses[-1] if found.losses else None,
        "weights": found.fingerprint(),
    }


if __name__ == "__main__":
    print(json.dumps(here(json.loads(sys.argv[1]))))
