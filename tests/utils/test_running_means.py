from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emloop_mtl.utils.running_mean import RunningMean
from emloop_mtl.utils.running_means import FOLD_AFTER, MANY, RunningMeans

COUNTS = (1, 3, MANY)


def batches_of(
    count: int, seed: int, number: int, common: bool
) -> list[tuple[list[torch.Tensor], int | tuple[int, ...]]]:
    generator = torch.Generator().manual_seed(seed)
    batches: list[tuple[list[torch.Tensor], int | tuple[int, ...]]] = []
    for index in range(number):
        values = list(torch.randn(count, generator=generator).unbind())
        weights = torch.randint(0 if index % 5 == 0 else 1, 9, (count,), generator=generator).tolist()
        batches.append((values, weights[0] if common else tuple(weights)))
    return batches


@pytest.mark.parametrize("count", COUNTS)
@given(st.integers(0, 2**31), st.integers(0, 2 * FOLD_AFTER + 3), st.booleans())
def test_each_number_is_added_up_as_if_it_came_alone(count: int, seed: int, number: int, common: bool) -> None:
    together, alone = RunningMeans(count), [RunningMean() for _ in range(count)]
    exact, weight_sums = [Fraction(0)] * count, [0] * count
    for values, weights in batches_of(count, seed, number, common):
        together.add(values, weights)
        spread = weights if isinstance(weights, tuple) else (weights,) * count
        for index, (value, weight) in enumerate(zip(values, spread, strict=True)):
            alone[index].add(value, weight)
            exact[index] += Fraction(value.item()) * weight
            weight_sums[index] += weight
    assert together.weights == weight_sums == [mean.weight for mean in alone]
    # fewer than 600 terms below 50, each rounded to 2**-53 of a sum below 3e4: 600 * 3e4 * 1.1e-16
    assert together.totals() == pytest.approx([float(total) for total in exact], abs=2e-9)


@pytest.mark.parametrize("count", COUNTS)
@given(st.integers(0, 2**31), st.integers(0, FOLD_AFTER + 9), st.integers(0, FOLD_AFTER + 9), st.booleans())
def test_saving_and_restoring_change_no_bit(count: int, seed: int, number: int, cut: int, common: bool) -> None:
    batches = batches_of(count, seed, number, common)
    straight, first, second = RunningMeans(count), RunningMeans(count), RunningMeans(count)
    for values, weights in batches:
        straight.add(values, weights)
    for values, weights in batches[:cut]:
        first.add(values, weights)
    state = first.state_dict()
    first.add([torch.tensor(1.0)] * count, 1)  # must not change what was saved
    second.load_state_dict(state)
    for values, weights in batches[cut:]:
        second.add(values, weights)
    assert second.totals() == straight.totals() == straight.totals()
    assert second.weights == straight.weights


@given(st.integers(0, 2**31), st.lists(st.integers(1, FOLD_AFTER), min_size=1, max_size=5))
def test_values_that_come_together_are_added_up_as_if_they_came_one_by_one(seed: int, sizes: list[int]) -> None:
    together, one_by_one = RunningMeans(2), RunningMeans(2)
    generator = torch.Generator().manual_seed(seed)
    for size in sizes:
        # of sizes so different that other sums of parts are rounded differently
        values = [list((3.0 ** torch.randint(-30, 30, (2,), generator=generator)).unbind()) for _ in range(size)]
        together.extend(values, 3)
        for each in values:
            one_by_one.add(each, 3)
    assert together.totals() == one_by_one.totals()
    assert together.weights == one_by_one.weights


@pytest.mark.parametrize("number", [1, FOLD_AFTER])
@pytest.mark.parametrize("count", [2, MANY])
def test_what_weighs_nothing_counts_nothing_even_if_it_is_undefined(count: int, number: int) -> None:
    means = RunningMeans(count)
    for _ in range(number):
        means.add([torch.tensor(math.nan), *[torch.tensor(2.0)] * (count - 1)], (0, *[3] * (count - 1)))
    assert means.totals() == [0.0, *[6.0 * number] * (count - 1)]
    assert means.weights == [0, *[3 * number] * (count - 1)]


@pytest.mark.parametrize("count", COUNTS)
def test_gradients_are_not_kept_and_numbers_of_python_are_taken(count: int) -> None:
    means = RunningMeans(count)
    means.add([torch.ones((), requires_grad=True) * 2] * count, 1)
    assert not means.state_dict()["pending"].requires_grad
    assert not any(value.requires_grad for batch in means._pending for value in batch)
    means.add([0.5] * count, 2)
    assert means.totals() == [3.0] * count
