"""Plans of trainings of all sorts, drawn at random."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from functools import partial
from typing import Any

from .drawn_data import ITERABLE, OF_TOKENS, TASKS, WITH_ROWS, LoaderPlan


@dataclass(frozen=True)
class Plan:
    """A training."""

    seed: int
    style: str
    tagged: str | None
    loaders: list[LoaderPlan]
    scheduler: tuple[str, dict[str, Any]]
    hand_written: str | None
    epoch_size: Any
    update: dict[str, Any]
    optimizer: dict[str, Any]
    stop: dict[str, int]
    evaluated: list[str]
    schedule: bool
    stack_tasks: bool
    precision: str
    skip_zeroth_epoch: bool
    changes: list[tuple[int, str, str]]
    frozen: list[dict[str, Any]]
    norms: dict[str, Any] | None
    average: dict[str, Any] | None
    cleared: str | None


DRAWN: dict[str, dict[str, Any]] = {
    "Uniform": {},
    "Weighted": {},
    "Proportional": {},
    "Temperature": {"alpha": 0.5},
    "Annealed": {"passes": 2},
    "Dynamic": {},
}
"""Schedulers that draw, with what they must be given."""


def by_numbers(numbers: dict[str, float], names: list[str]) -> dict[str, float]:
    """Return weights of loaders that follow from all numbers of an epoch."""
    total = sum(number for number in numbers.values() if math.isfinite(number))
    return {name: 0.1 + (total * 10**index) % 1 for index, name in enumerate(names)}


def draw_changes(chance: random.Random) -> list[tuple[int, str, str]]:
    """Draw after which steps which tasks are changed, and how."""
    if chance.random() < 0.6:
        return []
    removed, updated = chance.sample(TASKS, 2)
    step = chance.randint(1, 6)
    changes = [(step, "remove", removed), (chance.randint(1, 8), "update", updated)]
    if chance.random() < 0.6:
        changes.append((step + chance.randint(1, 3), "add", removed))
    return sorted(changes)


def draw_average(chance: random.Random) -> dict[str, Any] | None:
    """Draw how the weights are averaged, if they are."""
    if chance.random() < 0.5:
        return None
    average: dict[str, Any] = {"decay": 0.9, "ramp": chance.random() < 0.5, "updates": chance.choice([1, 1, 2])}
    average |= {"runway": chance.choice([None, 3]), "evaluate": chance.random() < 0.8}
    return {**average, "save": not average["evaluate"] or chance.random() < 0.6}


def draw_frozen(chance: random.Random, trunk: str) -> list[dict[str, Any]]:
    """Draw what is frozen in which epochs."""
    if chance.random() < 0.6:
        return []
    mode = chance.random() < 0.5
    what: list[dict[str, Any]] = [
        {"modules": [trunk], "eval_mode": mode},
        {"parameters": [r"^[ab](_head)?\."]},
        {"parameters": ["bias"]},
    ]
    first = chance.randint(1, 2)
    when = [{"until_epoch": first}, {"from_epoch": first + 1}, {"from_epoch": first, "until_epoch": 2}]
    return [{**each, **chance.choice(when)} for each in chance.sample(what, chance.randint(1, 2))]


def draw_plan(chance: random.Random) -> Plan:
    loaders = []
    count = chance.randint(1, 3)
    style = chance.choice(["flow", "flow", "heads", "joint"])
    hand_written = chance.choice([None, None, None, None, "drawn", "calm", "listed"])
    has_tokens = hand_written is None and style != "joint" and chance.random() < 0.3
    has_tokens = has_tokens and count > 1  # or no loader would hold the label of the others, which is refused
    tagged = chance.choice(TASKS[:count]) if has_tokens else None
    # Three equal heads that every batch is of are run as one.
    are_together = hand_written is None and style != "joint" and tagged is None and chance.random() < 0.4
    scheduler = chance.choice(["Sequential", "RoundRobin", "Mixed", "Interleaved", "Interleaved", *DRAWN])
    options: dict[str, Any] = {"fillup": chance.random() < 0.4}
    if scheduler == "RoundRobin":
        options["shuffle"] = chance.random() < 0.4
    elif scheduler == "Interleaved":
        length: dict[str, Any] = chance.choice([{}, {"fillup": True}, {"batches_per_pass": 3}, {"samples_per_pass": 7}])
        options = {"batch_size": chance.randint(1, 3), "drop_last": chance.random() < 0.3, **length}
    elif scheduler in DRAWN:
        options = {**DRAWN[scheduler], "batches_per_pass": chance.choice([None, 5])}
    if scheduler == "Weighted":
        options["weights"] = {f"{task}_train": 1.0 + chance.random() for task in TASKS[:count]}
    if scheduler == "Dynamic":
        options["function"] = partial(by_numbers, names=[f"{task}_train" for task in TASKS[:count]])
    is_interleaved = scheduler == "Interleaved"
    is_limited = is_interleaved and any(name in options for name in ("batches_per_pass", "samples_per_pass"))
    takes_n_batches = scheduler != "Mixed" and not is_limited and not (is_interleaved and options["drop_last"])
    needs_length = bool(options.get("fillup")) if is_interleaved else scheduler in DRAWN or any(options.values())
    for task in TASKS[:count]:
        for split in ("train", "valid"):
            kind = chance.choice(OF_TOKENS if task == tagged else WITH_ROWS + ITERABLE)
            own: dict[str, Any] = {"batch_size": chance.randint(1, 4)}
            size = chance.randint(4, 9)
            if kind not in ITERABLE:
                own["shuffle"] = chance.choice([None, True, False])
            own["drop_last"] = chance.random() < 0.3
            if split == "train" and (takes_n_batches and chance.random() < 0.3):
                own["n_batches"] = chance.randint(1, 5)
            if split == "train" and needs_length and kind in ("iterable", "drawn iterable"):
                own["n_batches"] = chance.randint(1, 5) if takes_n_batches else None
                if not takes_n_batches:
                    kind = "sized iterable"
            if kind == "sized iterable":
                own["drop_last"] = False
            if kind == "rows":
                own["deterministic"] = chance.choice([True, None])
            loaders.append(LoaderPlan(f"{task}_{split}", split, kind, size, own, TASKS if are_together else (task,)))
    sizes: list[Any] = [None, None, chance.randint(1, 6), {"samples": chance.randint(2, 15)}]
    known = not any(each.split == "train" and each.kind in ("iterable", "drawn iterable") for each in loaders)
    if (hand_written is None and known) or hand_written == "listed":
        sizes.append({"passes": chance.choice([0.5, 1.5, 0.3])})
    update: dict[str, Any] = {"accumulate": chance.choice([1, 1, 2, 3])}
    if chance.random() < 0.3:
        update["clip_norm"] = 0.5
    optimizers: list[dict[str, Any]] = [{"class": name} for name in ("sgd", "adam", "adamw")]
    optimizers.append({"class": "sgd", "momentum": 0.9})
    return Plan(
        seed=chance.randint(0, 99),
        style=style,
        tagged=tagged,
        loaders=loaders,
        scheduler=(scheduler, options),
        hand_written=hand_written,
        epoch_size=chance.choice(sizes),
        update=update,
        optimizer={"lr": 0.05, **chance.choice(optimizers)},
        stop=chance.choice([{"epochs": 2}, {"epochs": 3}, {"steps": chance.randint(3, 10)}]),
        evaluated=chance.choice([[], ["valid"], ["valid"], ["valid", "again"]]),
        schedule=chance.random() < 0.3,
        stack_tasks=are_together or chance.random() < 0.5,
        precision=chance.choice(["fp32", "fp32", "bf16", "fp16"]),
        skip_zeroth_epoch=chance.random() < 0.3,
        changes=draw_changes(chance),
        frozen=draw_frozen(chance, "trunk" if style == "flow" else "backbone"),
        norms=chance.choice([None, None, {"tasks": True}, {"every": 2}]),
        average=draw_average(chance),
        cleared=chance.choice([None, None, "all_but_best", "all"]),
    )
