"""Schedulers that take loaders by shares: how often each comes, and in which order."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emloop_mtl.errors import ConfigError
from emloop_mtl.schedulers import Annealed, DrawnScheduler, Loader, Proportional, Temperature, Uniform, Weighted

from .test_schedulers import FakeLoader, names, walk

NAMES = "abcd"
sizes = st.lists(st.integers(1, 9), min_size=1, max_size=len(NAMES))
totals = st.one_of(st.none(), st.integers(1, 40))


def loaders_of(sizes: list[int]) -> list[FakeLoader]:
    return [FakeLoader(name, size) for name, size in zip(NAMES, sizes, strict=False)]


def shares_of(scheduler: DrawnScheduler, sizes: list[int], pass_number: int) -> list[Fraction]:
    """The shares, said once more."""
    if isinstance(scheduler, Uniform):
        weights = [Fraction(1)] * len(sizes)
    elif isinstance(scheduler, Weighted):
        weights = [Fraction(index) for index in range(1, len(sizes) + 1)]
    elif isinstance(scheduler, Proportional):
        weights = [Fraction(size) for size in sizes]
    else:
        alpha = 0.3 if isinstance(scheduler, Temperature) else [1.0, 0.6, 0.2, 0.2][pass_number]
        weights = [Fraction(size**alpha) for size in sizes]
    return [weight / sum(weights) for weight in weights]


def scheduler_of(kind: type[DrawnScheduler], count: int, total: int | None) -> DrawnScheduler:
    options: dict[Any, dict[str, Any]] = {
        Weighted: {"weights": {name: index + 1 for index, name in enumerate(NAMES[:count])}},
        Temperature: {"alpha": 0.3},
        Annealed: {"passes": 3, "end": 0.2},
    }
    return kind(**options.get(kind, {}), batches_per_pass=total)


KINDS = (Annealed, Proportional, Temperature, Uniform, Weighted)


@pytest.mark.parametrize("kind", KINDS)
@given(sizes, totals, st.integers(0, 3), st.integers(0, 5), st.integers(0, 40))
def test_a_pass_has_its_length_and_every_loader_its_share(
    kind: type[DrawnScheduler], sizes: list[int], total: int | None, pass_number: int, seed: int, start: int
) -> None:
    scheduler, loaders = scheduler_of(kind, len(sizes), total), loaders_of(sizes)
    steps = walk(scheduler, loaders, seed=seed, pass_number=pass_number)
    length = sum(sizes) if total is None else total
    assert len(steps) == scheduler.num_steps(loaders) == scheduler.num_batches(loaders) == length
    for loader, share in zip(loaders, shares_of(scheduler, sizes, pass_number), strict=True):
        marks = [mark for (mark,) in steps if mark[0] == loader.name]
        assert abs(len(marks) - share * length) < 1
        # every round begins at the first batch, under a number of its own
        rounds = [pass_number if i < loader.size else (pass_number, i // loader.size) for i in range(len(marks))]
        assert marks == [(loader.name, rounds[i], i % loader.size) for i in range(len(marks))]
    for loader in loaders:
        loader.read = 0
    assert walk(scheduler, loaders, seed=seed, pass_number=pass_number, start=start) == steps[start:]
    assert sum(loader.read for loader in loaders) == len(steps[start:])


def test_over_many_passes_the_shares_are_met_also_where_a_pass_has_less_than_one_batch_of_a_loader() -> None:
    scheduler, loaders = Weighted({"a": 1, "b": 1, "c": 18}, batches_per_pass=4), loaders_of([2, 2, 2])
    found: Counter[str] = Counter()
    for number in range(1000):
        found.update(names(scheduler, *loaders, pass_number=number))
    # 0.2 batches a pass are expected; 5 standard deviations of 1000 draws of that: 5 * sqrt(1000 * 0.2 * 0.8) = 63
    assert abs(found["a"] - 200) < 63
    assert abs(found["b"] - 200) < 63
    assert found.total() == 4000


def test_orders_differ_with_pass_and_seed() -> None:
    loaders = loaders_of([9, 9])
    walks = {
        tuple(names(Uniform(), *loaders, seed=seed, pass_number=number)) for seed in range(2) for number in range(2)
    }
    assert len(walks) == 4


def test_proportional_takes_every_batch_once_and_heeds_n_batches() -> None:
    steps = walk(Proportional(), loaders_of([5, 3, 49]))
    assert sorted(step[0] for step in steps) == sorted(
        (name, 0, index) for name, size in zip("abc", (5, 3, 49), strict=True) for index in range(size)
    )
    limited = [FakeLoader("a", 5, n_batches=2), FakeLoader("b", 9, known=False, n_batches=4)]
    assert Counter(names(Proportional(), *limited)) == {"a": 2, "b": 4}


def test_a_weight_of_zero_leaves_a_loader_out_even_an_empty_one() -> None:
    loaders = [FakeLoader("a", 3), FakeLoader("b", 0)]
    assert names(Weighted({"a": 2, "b": 0}), *loaders) == ["a"] * 3


def test_loaders_of_unknown_length_start_over_where_their_size_does_not_matter() -> None:
    loaders = [FakeLoader("a", 2, known=False), FakeLoader("b", 3)]
    assert Counter(names(Uniform(batches_per_pass=10), *loaders)) == {"a": 5, "b": 5}


def test_powers_of_large_sizes_are_finite() -> None:
    assert Temperature(alpha=400).weights(loaders_of([1, 5]), 0) == [0.2**400, 1.0]
    assert names(Temperature(alpha=400), *loaders_of([1, 5])) == ["b"] * 6


def test_weights_may_be_as_large_as_numbers_are_and_of_any_kind_of_them() -> None:
    loaders = loaders_of([2, 2])
    for weights in ({"a": 1e308, "b": 1e308}, {"a": 10**300, "b": 10**300}, {"a": np.float32(3), "b": np.int8(3)}):
        assert Weighted(weights, batches_per_pass=4).lengths(loaders) == [2, 2]


@pytest.mark.parametrize("weights", [[0.0, 0.0], [1.0], [1.0, -1.0], [1.0, math.nan], [math.inf, 1.0]])
def test_weights_of_a_scheduler_of_ones_own_of_which_no_shares_can_be_made_are_refused(weights: list[float]) -> None:
    class Own(DrawnScheduler):
        def weights(self, loaders: Sequence[Loader], pass_number: int) -> Sequence[float]:
            return weights

    with pytest.raises(
        ConfigError, match=r"^Own: the weights of 2 loaders must be as many finite numbers >= 0, not al"
    ):
        Own().lengths(loaders_of([2, 2]))


def test_annealed_ends_with_its_last_power_and_stays_there() -> None:
    # 1 - 0.8 / 2 is rounded.
    assert [Annealed(3, end=0.2).alpha(number) for number in range(5)] == pytest.approx(
        [1, 0.6, 0.2, 0.2, 0.2], rel=1e-15
    )
    assert Annealed(1, end=0.5).alpha(0) == 0.5  # its first pass is the last


@pytest.mark.parametrize(
    ("make", "path", "text"),
    [
        (lambda: Uniform(0), ("batches_per_pass",), "Uniform: batches_per_pass must be a whole number, 1 or more"),
        (lambda: Uniform(True), ("batches_per_pass",), "not True"),
        (lambda: Weighted(3), ("weights",), "must map loader names to numbers"),
        (lambda: Weighted({"a": -1}), ("weights", "a"), "weight of loader 'a' must be a finite number >= 0, not -1"),
        (lambda: Weighted({"a": math.inf}), ("weights", "a"), "not inf"),
        (
            lambda: Weighted({"a": 10**400}),
            ("weights", "a"),
            "weight of loader 'a' must be a finite number >= 0, not 100",
        ),
        (lambda: Temperature(-0.1), ("alpha",), "Temperature: alpha must be a finite number >= 0, not -0.1"),
        (lambda: Temperature("1"), ("alpha",), "not '1'"),
        (lambda: Annealed(0), ("passes",), "Annealed: passes must be a whole number, 1 or more, not 0"),
        (lambda: Annealed(2, end=math.nan), ("end",), "Annealed: end must be a finite number"),
    ],
)
def test_arguments_out_of_range_are_refused(make: Any, path: tuple[str, ...], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert text in str(caught.value)
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("scheduler", "loaders", "text"),
    [
        (Uniform(), [FakeLoader("a", 2, known=False)], "length of loader 'a', which has none; set its n_batches, or b"),
        (Temperature(1, 5), [FakeLoader("a", 2, known=False)], "which has none; set its n_batches$"),
        (Uniform(5), [FakeLoader("a", 2), FakeLoader("b", 0)], "loader 'b' is empty, but has a share of the batches"),
        (Weighted({"a": 1}), loaders_of([2, 2]), "loader 'b' has no weight; give it one, 0 to leave it out"),
        (Weighted({"a": 1, "bb": 1}), loaders_of([2, 2]), "there is no loader 'bb'; did you mean 'b'"),
        (Weighted({"a": 0}), loaders_of([2]), "all weights are 0"),
    ],
)
def test_loaders_that_cannot_be_drawn_from_are_refused_before_the_first_batch(
    scheduler: DrawnScheduler, loaders: list[FakeLoader], text: str
) -> None:
    with pytest.raises(ConfigError, match=text):
        scheduler.steps(loaders)


@pytest.mark.parametrize("kind", KINDS)
def test_no_loaders_make_no_step(kind: type[DrawnScheduler]) -> None:
    for total in (None, 3):
        scheduler = scheduler_of(kind, 0, total)
        assert walk(scheduler, []) == []
        assert scheduler.num_steps([]) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_settings_tell_schedulers_apart(kind: type[DrawnScheduler]) -> None:
    assert scheduler_of(kind, 2, 5).settings() == scheduler_of(kind, 2, 5).settings()
    assert scheduler_of(kind, 2, 5).settings() != scheduler_of(kind, 2, 6).settings()
