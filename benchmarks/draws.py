"""What a draw of a task scheduler costs, of few loaders and of many."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from emloop_mtl import schedulers
from emloop_mtl.data import Batch
from emloop_mtl.schedulers import AbstractTaskScheduler

from .clock import now

FEW, MANY = 10, 10_000
"""Loaders; no more than there are draws."""

KINDS = ("Uniform", "Weighted", "Proportional", "Temperature", "Annealed", "Dynamic", "Interleaved")
REPEATS = 3
"""The fastest counts."""

ROWS = 32
"""In a mixed batch."""


class _Loader:
    """One of which only its length is looked at."""

    n_batches = None
    batch_size = 1
    has_rows = True

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.num_batches = self.num_samples = size

    def samples_in(self, num_batches: int) -> int:
        return num_batches

    def batches(self, pass_number: int | tuple[int, int], start: int = 0) -> Iterator[Batch]:
        return iter(())


def draw(kind: str, draws: int) -> dict[str, Any]:
    """Return the nanoseconds of a draw of few loaders and of many, the beginning of the pass included.

    :param kind: one of ``KINDS``; a draw of ``Interleaved`` is a row
    :param draws: of a pass
    """
    found: dict[int, list[float]] = {FEW: [], MANY: []}
    for _ in range(REPEATS):
        for most, times in found.items():
            count = min(most, draws)
            loaders = [_Loader(f"data_{index}", draws // count) for index in range(count)]
            scheduler = _make(kind, loaders, draws)
            began = now()
            lengths = scheduler.lengths(loaders, seed=1, pass_number=0)
            drawn = sum(1 for _ in scheduler.picks(lengths, seed=1, pass_number=0))
            times.append(1e9 * (now() - began) / draws)
            assert drawn == (draws if kind != "Interleaved" else -(-draws // ROWS))
    return {"few": min(found[FEW]), "many": min(found[MANY])}


def _make(kind: str, loaders: list[_Loader], draws: int) -> AbstractTaskScheduler:
    arguments: dict[str, dict[str, Any]] = {
        "Weighted": {"weights": {loader.name: index % 7 + 1 for index, loader in enumerate(loaders)}},
        "Temperature": {"alpha": 0.5},
        "Annealed": {"passes": 2},
        "Dynamic": {"function": dict, "start": {loader.name: index % 5 + 1 for index, loader in enumerate(loaders)}},
        "Interleaved": {"batch_size": ROWS, "samples_per_pass": draws},
    }
    length = {} if kind == "Interleaved" else {"batches_per_pass": draws}
    scheduler: AbstractTaskScheduler = getattr(schedulers, kind)(**arguments.get(kind, {}), **length)
    return scheduler
