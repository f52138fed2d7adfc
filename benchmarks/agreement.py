"""Whether the engine does the work of the loops by hand: a short training by each, weights and numbers compared."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from . import by_hand, engine
from .trained import Trained
from .workloads import Workload, make_modules

STEPS, EPOCHS = 20, 2
ROUNDING = 1e-5
"""Mean difference of two weights, in mean changes of a weight, that roundings may make in 40 steps.

The plain and the fused AdamW differ by 2e-7. The bound leaves room for the rare unit near zero that is on in one
network and off in the other for some row.
"""


class DifferentWorkError(Exception):
    """The engine has not done the same work."""


class Agreement(NamedTuple):
    """How far the final weights agree.

    :param same_as: ``by hand`` or ``by hand, fused`` where they agree with its weights to the bit; else None
    :param difference: the mean difference of two weights, in mean changes of a weight
    """

    same_as: str | None
    difference: float


def check(workload: Workload, optimizer: str) -> Agreement:
    """Train by hand, with torch's and with the fused optimizer, and by the engine.

    :raise DifferentWorkError: if weights, losses or scores differ
    """
    order = engine.train_order if workload.feeding == "columns" else None
    found: dict[str, Trained] = {}
    for kind, fused in (("by hand", None), ("by hand, fused", True)):
        batches = None if order is None else order(workload, STEPS * EPOCHS)
        with TemporaryDirectory() as folder:
            found[kind] = by_hand.train(workload, optimizer, STEPS, EPOCHS, Path(folder), fused, batches)
    with TemporaryDirectory() as folder:
        ours = engine.train(workload, optimizer, STEPS, EPOCHS, Path(folder))
    what = f"workload {workload.name}, {optimizer}"
    if ours.weights.keys() != found["by hand"].weights.keys():
        raise DifferentWorkError(f"{what}: the engine's weights have other names")
    same_as = next((kind for kind, each in found.items() if each.fingerprint() == ours.fingerprint()), None)
    theirs = found[same_as or "by hand"]
    difference = _difference(workload, ours, theirs)
    if same_as is None and difference > ROUNDING:
        raise DifferentWorkError(f"{what}: the final weights differ by {difference:.2g} of their change")
    _check_numbers(what, ours, theirs, exact=same_as is not None)
    return Agreement(same_as, difference)


def _difference(workload: Workload, ours: Trained, theirs: Trained) -> float:
    initial = make_modules(workload).state_dict()
    difference = sum((ours.weights[name] - theirs.weights[name]).abs().sum().item() for name in initial)
    change = sum((theirs.weights[name] - initial[name]).abs().sum().item() for name in initial)
    return float(difference / change)


def _check_numbers(what: str, ours: Trained, theirs: Trained, exact: bool) -> None:
    # A batch's loss is rounded to 1e-7 of itself where it is made; otherwise losses differ as the weights do.
    tolerance = 1e-6 if exact else ROUNDING
    for epoch, (one, other) in enumerate(zip(ours.losses, theirs.losses, strict=True), 1):
        if abs(one - other) > tolerance * other:
            raise DifferentWorkError(f"{what}: mean loss of epoch {epoch} {one}, by hand {other}")
    if ours.scores.keys() != theirs.scores.keys():
        raise DifferentWorkError(f"{what}: scores {sorted(ours.scores)}, by hand {sorted(theirs.scores)}")
    for name, value in ours.scores.items():
        # With other roundings one row of the 160 or more may fall into another class.
        allowed = tolerance * theirs.scores[name] if exact or name.endswith("loss") else 1 / 160
        if abs(value - theirs.scores[name]) > allowed:
            raise DifferentWorkError(f"{what}: {name} {value}, by hand {theirs.scores[name]}")
