"""Scoring four tasks on ready batches: accuracy and mean loss, how long it takes and how much memory it needs."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from emloop_mtl import MainLoop, MultiTaskDataset, MultiTaskModel, TaskLoader
from emloop_mtl.hooks import ComputeStats, LogVariables, ScoreTasks, ShowProgress

from .clock import now
from .engine import ReadyLoader, logging_as_usual, make_tasks
from .workloads import BATCH_SIZE, WORKLOADS, Batch, head_name, label_name, make_batches, make_modules, task_name

KINDS = ("by hand", "run_evaluation", "model.score")
WORKLOAD = WORKLOADS["B"]
REPEATS = 4
"""The fastest counts."""
DIFFERENT = 313
"""Batches of each task that differ, 10,000 samples: within so many no tensor comes twice, as in a real stream."""

Score = Callable[[list[list[Batch]]], dict[str, float]]


def score(kind: str, samples: int, folder: Path) -> dict[str, Any]:
    """Return the seconds, the scores, and by how many kilobytes the process grew at most.

    :param samples: samples of each task, rounded up to whole batches
    """
    torch.set_num_threads(1)
    make: Callable[[Path], Score] = {"by hand": _by_hand, "run_evaluation": _run_evaluation, "model.score": _score}[
        kind
    ]
    run = make(folder)
    with logging_as_usual(folder):
        run(_task_batches(BATCH_SIZE * DIFFERENT))  # whatever is made once is made now, the size of the heap included
        batches = _task_batches(samples)
        before = _start_peak()
        scores = run(batches)
        peak = _read_status("VmHWM") - before
        seconds = []
        for _ in range(REPEATS):
            began = now()
            run(batches)
            seconds.append(now() - began)
    return {"milliseconds": 1e3 * min(seconds), "scores": scores, "peak_kb": peak}


def _task_batches(samples: int) -> list[list[Batch]]:
    """Return the batches of each task; of many samples the same ones come again, so that they take no memory."""
    count = -(-samples // BATCH_SIZE)
    batches = make_batches(WORKLOAD, "train", WORKLOAD.tasks * min(count, DIFFERENT))
    found = []
    for task in range(WORKLOAD.tasks):
        own = batches[task :: WORKLOAD.tasks]
        found.append((own * (count // len(own) + 1))[:count])
    return found


def _by_hand(folder: Path) -> Score:
    modules = make_modules(WORKLOAD)
    trunk = modules["trunk"]

    @torch.no_grad()
    def run(task_batches: list[list[Batch]]) -> dict[str, float]:
        found: dict[str, Tensor] = {}
        for task, batches in enumerate(task_batches):
            head, label, samples = modules[head_name(task)], label_name(task), 0
            correct, total = torch.zeros((), dtype=torch.int64), torch.zeros((), dtype=torch.float64)
            for batch in batches:
                logits, labels = head(trunk(batch["x"])), batch[label]
                correct += (logits.argmax(1) == labels).sum()
                total += cross_entropy(logits, labels) * len(labels)
                samples += len(labels)
            found[f"{task_name(task)}/accuracy"] = correct / samples
            found[f"{task_name(task)}/loss"] = total / samples
        return {name: value.item() for name, value in found.items()}

    return run


class _Valid(MultiTaskDataset):
    """A stream ``valid`` of whatever batches lie in ``task_batches``."""

    task_batches: list[list[Batch]]

    def loaders(self) -> list[TaskLoader]:
        return _loaders(self.task_batches)


def _loaders(task_batches: list[list[Batch]]) -> list[TaskLoader]:
    return [
        TaskLoader(
            ReadyLoader(batches),
            {task_name(task): label_name(task)},
            "valid",
            name=f"data_{task}",
            batch_size=None,
            deterministic=True,
        )
        for task, batches in enumerate(task_batches)
    ]


def _run_evaluation(folder: Path) -> Score:
    model = MultiTaskModel(make_tasks(WORKLOAD), device="cpu")

    def run(task_batches: list[list[Batch]]) -> dict[str, float]:
        dataset = _Valid()
        dataset.task_batches = task_batches
        hooks = [ScoreTasks(), ComputeStats(["loss"]), LogVariables(), ShowProgress()]
        loop = MainLoop(model, dataset, [*hooks], train_stream_name="valid", output_dir=folder)
        loop.run_evaluation("valid")
        return _named(loop.epoch_data["valid"])

    return run


def _score(folder: Path) -> Score:
    model = MultiTaskModel(make_tasks(WORKLOAD), device="cpu")
    return lambda task_batches: _named(model.score(_loaders(task_batches)))


def _named(numbers: Any) -> dict[str, float]:
    """Return accuracy and loss of each task, whatever data and stream they are of."""
    found = {}
    for name, value in numbers.items():
        parts = name.split("/")
        if parts[0].startswith("task_") and parts[-1] in ("accuracy", "loss"):
            found[f"{parts[0]}/{parts[-1]}"] = value
    return found


def _start_peak() -> int:
    """Forget the highest size of this process so far, and return its present one, in kilobytes."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _read_status("VmRSS")


def _read_status(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
