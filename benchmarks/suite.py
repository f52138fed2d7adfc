"""What is measured, in which order, and what it is compared with."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TypeAlias

from . import imports
from .against_peers import measure_peers
from .agreement import Agreement, DifferentWorkError, check
from .jobs import Job, Result, Run, draw_job, hooks_job, in_turns, score_job, train_job
from .rows import Row, ratio_row, value_row
from .sizes import Sizes
from .workloads import OPTIMIZERS, WORKLOADS, Workload

Part: TypeAlias = Callable[[Run, Sizes], Iterator[Row]]
"""Measures something and yields its lines; raises ``DifferentWorkError`` where the engine does other work."""

MOST_GROWTH_KB = 1024
"""How much more memory may be needed for ten times the samples: less than any allocation worth the name, and more than
how the size of a process varies from one to another."""

MOST_GROWTH_OF_A_DRAW = 1.25
"""A draw is to cost the same; of many loaders, what belongs to each leaves the processor's cache."""


def parts(peers_python: str = sys.executable) -> dict[str, Part]:
    """Return what there is to measure, by name: the workloads, what is no ratio of theirs, and other libraries.

    :param peers_python: the interpreter that has those
    """
    workloads: dict[str, Part] = {name: partial(_workload, workload) for name, workload in WORKLOADS.items()}
    others = {"scoring": _scoring, "hooks": _hooks, "more tasks": _more_tasks, "draws": _draws, "imports": _imports}
    return {**workloads, **others, "peers": partial(measure_peers, peers_python)}


def _workload(workload: Workload, run: Run, sizes: Sizes) -> Iterator[Row]:
    for optimizer in OPTIMIZERS:
        yield from _training(run, sizes, workload, optimizer, check(workload, optimizer))


def _imports(run: Run, sizes: Sizes) -> Iterator[Row]:
    times = 2 * sizes.rounds + 1
    bare, every = imports.beyond_torch(times)
    yield value_row("import of the package beyond torch", bare, "s", 0.15)
    yield value_row("the same, with every public name", every, "s", 0.15)
    yield value_row("`emloop-mtl --help`", imports.help_text(times), "s", 0.3)


def _training(run: Run, sizes: Sizes, workload: Workload, optimizer: str, agreement: Agreement) -> Iterator[Row]:
    def job(kind: str) -> Job:
        return train_job(kind, workload.name, optimizer, sizes.steps(workload.steps), sizes.epochs)

    found = in_turns(run, {"by hand": job("by hand"), "engine": job("engine")}, sizes.rounds)
    # Beside the last round's loop: once is enough where nothing is promised.
    found["by hand, fused"] = [run(job("by hand, fused"))]
    _check_weights(workload, optimizer, agreement, found)
    title = f"{workload.name}, {optimizer}: {workload.title}"

    def times(kind: str, key: str = "microseconds") -> list[float]:
        return [each[key] for each in found[kind]]

    row = ratio_row(title, times("by hand"), times("engine"), ("by hand", "engine"), workload.target)
    row.details |= {"weights": agreement.same_as or "rounded otherwise", "difference": agreement.difference}
    yield row
    whole = times("by hand", "epoch_microseconds"), times("engine", "epoch_microseconds")
    yield ratio_row("… whole epoch, with evaluation and saving", *whole, ("by hand", "engine"), None)
    fused = times("by hand")[-1:], times("by hand, fused")
    yield ratio_row("… by hand with the fused optimizer", *fused, ("by hand", "by hand, fused"), None)


def _check_weights(workload: Workload, optimizer: str, agreement: Agreement, found: Mapping[str, list[Result]]) -> None:
    what = f"workload {workload.name}, {optimizer}"
    if workload.feeding == "columns":  # by hand it has another order; agreement was found with the engine's
        losses = [found[kind][0]["loss"] for kind in ("by hand", "engine")]
        if abs(losses[1] / losses[0] - 1) > 0.05:  # the mean of an epoch hardly depends on its order
            raise DifferentWorkError(f"{what}: mean loss {losses[1]}, by hand {losses[0]}")
    elif agreement.same_as is not None:
        prints = {each["weights"] for kind in ("engine", agreement.same_as) for each in found[kind]}
        if len(prints) != 1:
            raise DifferentWorkError(f"{what}: the final weights differ")


def _scoring(run: Run, sizes: Sizes) -> Iterator[Row]:
    from .scoring import KINDS

    peaks: dict[str, list[list[float]]] = {kind: [] for kind in KINDS}
    for samples in sizes.samples:
        found = in_turns(run, {kind: score_job(kind, samples) for kind in KINDS}, sizes.rounds)
        base = found["by hand"]
        for kind in KINDS:
            peaks[kind].append([each["peak_kb"] for each in found[kind]])
            for name, value in base[0]["scores"].items():
                # float64 sums of the same losses, in another order or of the batches' means
                if abs(found[kind][0]["scores"].get(name, float("inf")) - value) > 1e-6 * abs(value):
                    raise DifferentWorkError(f"scoring by {kind}: {name} is not {value}")
        for kind in KINDS[1:]:
            times = [each["milliseconds"] for each in base], [each["milliseconds"] for each in found[kind]]
            yield ratio_row(f"scoring 4 × {samples:,} samples, {kind} (ms)", *times, ("by hand", kind), 1.10)
    for kind in KINDS:
        growth = [more - less for less, more in zip(*peaks[kind], strict=True)]
        title = f"scoring, {kind}: memory for {sizes.samples[1] // sizes.samples[0]} times the samples"
        row = value_row(title, growth, "KB more", MOST_GROWTH_KB)
        row.details["peaks_kb"] = peaks[kind]
        yield row


def _hooks(run: Run, sizes: Sizes) -> Iterator[Row]:
    count, steps = sizes.more_hooks, sizes.steps(WORKLOADS["A"].steps)
    jobs = {kind: hooks_job(kind, count, steps, sizes.epochs) for kind in ("none", "empty", "pass")}
    found = in_turns(run, jobs, sizes.rounds)
    for kind, title in (("empty", "a hook without events, per step"), ("pass", "a hook that does nothing, per step")):
        pairs = zip(found["none"], found[kind], strict=True)
        costs = [(more["microseconds"] - less["microseconds"]) / count for less, more in pairs]
        yield value_row(title, costs, "µs", 0.05)


def _draws(run: Run, sizes: Sizes) -> Iterator[Row]:
    from .draws import FEW, KINDS, MANY

    jobs = {kind: draw_job(kind, sizes.draws) for kind in KINDS}
    for kind, found in in_turns(run, jobs, sizes.rounds).items():
        few, many = ([each[key] for each in found] for key in ("few", "many"))
        title = f"a draw by {kind}, of {MANY:,} loaders beside {FEW} (ns)"
        yield ratio_row(title, few, many, (f"{FEW} loaders", f"{MANY:,} loaders"), MOST_GROWTH_OF_A_DRAW)


def _more_tasks(run: Run, sizes: Sizes) -> Iterator[Row]:
    count, workload = sizes.more_tasks, WORKLOADS["B"]
    jobs = {
        f"{kind} {more}": train_job(kind, "B", "sgd", sizes.steps(workload.steps), sizes.epochs, more)
        for kind in ("by hand", "engine")
        for more in (0, count)
    }
    found = in_turns(run, jobs, sizes.rounds)
    costs = {
        kind: [
            (more["microseconds"] - less["microseconds"]) / count
            for less, more in zip(found[f"{kind} 0"], found[f"{kind} {count}"], strict=True)
        ]
        for kind in ("by hand", "engine")
    }
    beyond = [engine - by_hand for by_hand, engine in zip(costs["by hand"], costs["engine"], strict=True)]
    row = value_row("a task that no batch carries, beyond its parameters by hand", beyond, "µs", 0.05)
    row.details |= costs
    yield row
