"""Random numbers that nobody else draws from."""

import random
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from emloop_mtl.utils.isolated_random import IsolatedRandom, isolated
from emloop_mtl.utils.random import seed_everything, seed_host


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_isolated_code_has_numbers_of_its_own() -> None:
    seed_host(3)
    undisturbed = [draw() for _ in range(3)]
    seed_everything(1)
    outer = [draw() for _ in range(4)]

    seed_everything(1)
    generators = IsolatedRandom(3)
    seen, around = [], [draw()]
    for _ in range(3):
        with generators:
            seen.append(draw())
        around.append(draw())
    assert seen == undisturbed
    assert around == outer


def test_the_outer_state_is_restored_after_an_error() -> None:
    seed_everything(1)
    expected = draw()
    seed_everything(1)
    with pytest.raises(KeyError), IsolatedRandom(3):
        draw()
        raise KeyError
    assert draw() == expected


def test_isolated_items_do_not_see_what_the_consumer_draws() -> None:
    def items() -> Iterator[tuple[float, float, float]]:
        for _ in range(4):
            yield draw()

    calm = list(isolated(items(), IsolatedRandom(9)))
    disturbed = []
    for item in isolated(items(), IsolatedRandom(9)):
        draw()
        disturbed.append(item)
    assert calm == disturbed
    assert len(calm) == 4
