"""Trainings of all sorts, broken off at any border and gone on with by new objects, end like those that were not."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from .drawn_plans import draw_plan
from .drawn_runs import KilledError, Run


def differences(one: Any, other: Any, where: str = "") -> Iterator[str]:
    """Yield the places in which two results differ, bit for bit."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        if not torch.equal(one, other):
            yield where
    elif isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for key in one:
            yield from differences(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)) and len(one) == len(other):
        for index, pair in enumerate(zip(one, other, strict=True)):
            yield from differences(*pair, f"{where}[{index}]")
    elif one != other:
        yield f"{where}: {one!r:.300} and {other!r:.300}"


def check_case(seed: int, folder: Path, with_workers: bool) -> None:
    chance = random.Random(seed)
    plan = draw_plan(chance)
    whole = Run(folder / "whole").of(plan)
    expected = whole.result()
    moments = whole.kill.moments
    done = 0
    for attempt in range(chance.choice([2, 2, 3, 4])):
        last = done >= moments or attempt == 3
        run = Run(
            folder / "run",
            kill_at=None if last else chance.randint(1, moments - done),
            buffer=chance.choice([0, 0, 1, 3]),
            workers=random.Random(chance.random()) if with_workers else None,
            resume=attempt > 0,
            seed=attempt + 1,
        )
        try:
            run.of(plan)
        except KilledError:
            done += run.kill.moments
            continue
        break
    else:
        run = Run(folder / "run", resume=True, seed=99, workers=random.Random(seed) if with_workers else None).of(plan)
    assert list(differences(expected, run.result())) == [], plan


@pytest.mark.parametrize("seed", range(12))
def test_a_training_goes_on_from_any_border(seed: int, tmp_path: Path) -> None:
    check_case(seed, tmp_path, with_workers=False)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2))
def test_it_does_so_with_any_number_of_processes_that_read(seed: int, tmp_path: Path) -> None:
    check_case(seed, tmp_path, with_workers=True)


@pytest.mark.soak
@pytest.mark.parametrize("hundred", range(1, 21))
def test_many_trainings_go_on_from_any_border(hundred: int, tmp_path: Path) -> None:
    for seed in range(100 * hundred, 100 * hundred + 100):
        check_case(seed, tmp_path / str(seed), with_workers=seed % 20 == 0)
