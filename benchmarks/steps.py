"""Measures what one training step costs in the engine and in a loop written by hand: ``make bench``.

Both train the same network (64-64-10) from the same weights on the same batches of 32 rows, which lie ready in
memory, and report the mean loss of every epoch; nothing waits for a value before that. The network is so small that
a step is nearly all overhead: larger ones hide what is measured here. What the engine does beyond the loop is part of
its time: it checks the labels of every batch, times it, and can be interrupted and saved after it.

Every measurement is a process of its own. The two kinds take turns, so that whatever else the machine does meets both
alike, and each round gives one ratio. On a busy machine the rounds differ widely; the ratio of the best times is then
the one to believe, since disturbances only ever add time. The final weights must agree to the bit: what is compared
is the same work.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

RESULTS = Path(__file__).parent / "results.json"

KINDS = ("by hand", "engine")
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"lr": 0.01},  # the cheapest update there is, so the strictest comparison
    "adamw": {"lr": 0.001},  # what most people train with
}
BATCHES = 100
BATCH_SIZE = 32
STEPS = 1000
"""Steps of an epoch: it lasts about 0.1 s and more, so that what happens once in an epoch hardly counts."""
EPOCHS = 8
"""The fastest one counts for a process: disturbances only ever add time, and some epoch is free of them."""


def make_work() -> tuple[Any, list[dict[str, Any]]]:
    """Return modules and batches, the same ones in every process."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    modules = nn.ModuleDict({"trunk": nn.Sequential(nn.Linear(64, 64), nn.ReLU()), "head": nn.Linear(64, 10)})
    images = torch.randn(BATCHES, BATCH_SIZE, 64)
    labels = torch.randint(10, (BATCHES, BATCH_SIZE))
    return modules, [{"image": image, "digit": label} for image, label in zip(images, labels, strict=True)]


def train_by_hand(optimizer_name: str, steps: int, epochs: int) -> tuple[list[float], list[float], Any]:
    """Return the seconds and the mean loss of every epoch, and the modules."""
    import torch
    from torch.nn.functional import cross_entropy

    modules, batches = make_work()
    trunk, head = modules["trunk"], modules["head"]
    kind = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[optimizer_name]
    optimizer = kind(modules.parameters(), **OPTIMIZERS[optimizer_name])
    seconds, losses = [], []
    stream = cycle(batches)
    for _ in range(epochs):
        began = perf_counter()
        total = torch.zeros((), dtype=torch.float64)
        for _, batch in zip(range(steps), stream, strict=False):
            loss = cross_entropy(head(trunk(batch["image"])), batch["digit"])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
            total += loss.detach()
        losses.append(total.item() / steps)
        seconds.append(perf_counter() - began)
    return seconds, losses, modules


def train_by_engine(optimizer_name: str, steps: int, epochs: int) -> tuple[list[float], list[float], Any]:
    """Return the same as ``train_by_hand``."""
    from emloop_mtl import AbstractDataset, AbstractHook, Action, MainLoop, MultiTaskModel, Task
    from emloop_mtl.hooks import ComputeStats, StopAfter

    modules, batches = make_work()
    seconds: list[float] = []
    losses: list[float] = []

    class Digits(AbstractDataset):
        """The ready batches, again and again."""

        def train_stream(self) -> list[dict[str, Any]]:
            return batches

    class Clock(AbstractHook):
        """Takes the time from the beginning to the end of every epoch, all other hooks included."""

        def before_epoch(self, epoch_id: int, train_streams: list[str], eval_streams: list[str]) -> None:
            self.began = perf_counter()

        def after_epoch(self, epoch_id: int, epoch_data: dict[str, dict[str, Any]]) -> None:
            losses.append(epoch_data["train"]["loss"]["mean"])
            seconds.append(perf_counter() - self.began)

    task = Task(
        name="digit",
        modules=modules,
        flow=[Action("features", "trunk", "image"), Action("logits", "head", "features")],
        label="digit",
        loss="cross_entropy",
    )
    optimizer = {"class": optimizer_name, **OPTIMIZERS[optimizer_name]}
    model = MultiTaskModel(tasks=[task], optimizer=optimizer, device="cpu")
    hooks = [ComputeStats(variables=["loss"]), Clock(), StopAfter(epochs=epochs)]
    main_loop = MainLoop(model, Digits(), hooks, fixed_epoch_size=steps, skip_zeroth_epoch=True)
    main_loop.run_training()
    return seconds, losses, modules


def cycle(batches: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    while True:
        yield from batches


TRAIN: dict[str, Callable[[str, int, int], tuple[list[float], list[float], Any]]] = {
    "by hand": train_by_hand,
    "engine": train_by_engine,
}


def work(kind: str, optimizer: str) -> dict[str, Any]:
    """Train in this process and return the time of a step, the losses and a fingerprint of the weights."""
    seconds, losses, modules = TRAIN[kind](optimizer, STEPS, EPOCHS)
    fingerprint = hashlib.sha256()
    for name, value in sorted(modules.state_dict().items()):
        fingerprint.update(name.encode() + value.numpy().tobytes())
    return {
        "microseconds": 1e6 * min(seconds) / STEPS,
        "losses": losses,
        "weights": fingerprint.hexdigest(),
    }


def in_process(kind: str, optimizer: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--worker", kind, optimizer]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


def compare(optimizer: str, rounds: int) -> dict[str, Any]:
    """Measure both kinds in turns; the order within a round alternates."""
    found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for turn in range(rounds):
        for kind in KINDS if turn % 2 == 0 else reversed(KINDS):
            found[kind].append(in_process(kind, optimizer))
    if len({each["weights"] for results in found.values() for each in results}) != 1:
        sys.exit(f"{optimizer}: the final weights differ, so the times compare different work")
    times = {kind: [each["microseconds"] for each in results] for kind, results in found.items()}
    for kind in KINDS:
        # Both sum up 1000 terms of about 2 in float64, but not in one order: 1000 roundings of 3e-13, divided by 1000.
        pairs = zip(found[kind][0]["losses"], found["by hand"][0]["losses"], strict=True)
        if any(abs(mean - other) > 1e-12 for mean, other in pairs):
            sys.exit(f"{optimizer}: the mean losses differ")
    ratios = [engine / by_hand for by_hand, engine in zip(times["by hand"], times["engine"], strict=True)]
    best = {kind: min(each) for kind, each in times.items()}
    return {
        "microseconds_per_step": {
            kind: {"best": best[kind], "median": median(each), "all": each} for kind, each in times.items()
        },
        "ratio": {"of_bests": best["engine"] / best["by hand"], "median": median(ratios), "all": ratios},
    }


def environment() -> dict[str, Any]:
    import torch

    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        processor = platform.processor()
    return {"processor": processor, "python": platform.python_version(), "torch": torch.__version__, "threads": 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="processes of each kind (%(default)s)")
    parser.add_argument("--worker", nargs=2, metavar=("KIND", "OPTIMIZER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(work(*arguments.worker)))
        return
    results = {}
    for optimizer in OPTIMIZERS:
        results[optimizer] = compare(optimizer, arguments.rounds)
        times, ratio = results[optimizer]["microseconds_per_step"], results[optimizer]["ratio"]
        print(
            f"{optimizer:5} by hand {times['by hand']['best']:.1f} µs a step, engine {times['engine']['best']:.1f} µs "
            f"at best, ratio {ratio['of_bests']:.2f}; {arguments.rounds} rounds: median {ratio['median']:.2f}, "
            f"{min(ratio['all']):.2f} to {max(ratio['all']):.2f}",
            flush=True,
        )
    settings = {"batch_size": BATCH_SIZE, "steps_per_epoch": STEPS, "epochs": EPOCHS, "rounds": arguments.rounds}
    report = {"workload": "MLP 64-64-10", "settings": settings, "environment": environment(), "optimizers": results}
    RESULTS.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
