"""Seeds, orders and random state."""

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emloop_mtl.utils.random import (
    IsolatedRandom,
    derive_seed,
    get_random_state,
    isolated,
    permutation,
    seed_everything,
    seed_host,
    set_random_state,
)


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_a_seed_is_the_same_in_every_process() -> None:
    code = "from emloop_mtl.utils.random import derive_seed; print(derive_seed(7, 'digits', (1, 2)))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(other.stdout) == derive_seed(7, "digits", (1, 2))


@given(st.integers(), st.text(max_size=5))
def test_seeds_fit_in_63_bits_and_differ_with_their_parts(number: int, text: str) -> None:
    seed = derive_seed(number, text)
    assert 0 <= seed < 2**63
    assert seed != derive_seed(number + 1, text)
    assert seed != derive_seed(number, text + "x")


def test_a_permutation_depends_on_its_parts_alone() -> None:
    first = permutation(50, 1, "a")
    draw()
    assert torch.equal(first, permutation(50, 1, "a"))
    assert not torch.equal(first, permutation(50, 1, "b"))
    assert torch.equal(first.sort().values, torch.arange(50))


@pytest.mark.parametrize("draws_before", [0, 1, 3])
def test_the_state_survives_a_safe_file(tmp_path: Path, draws_before: int) -> None:
    seed_everything(5)
    for _ in range(draws_before):
        draw()
        # An odd number of normal draws leaves one of a pair behind in the state.
        random.gauss(0, 1)
        np.random.randn()
    torch.save(get_random_state(), tmp_path / "state.pt")
    expected = [draw(), random.gauss(0, 1), np.random.randn()]
    seed_everything(6)
    set_random_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert [draw(), random.gauss(0, 1), np.random.randn()] == expected


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
    def items() -> object:
        for _ in range(4):
            yield draw()

    calm = list(isolated(items(), IsolatedRandom(9)))
    disturbed = []
    for item in isolated(items(), IsolatedRandom(9)):
        draw()
        disturbed.append(item)
    assert calm == disturbed
    assert len(calm) == 4
