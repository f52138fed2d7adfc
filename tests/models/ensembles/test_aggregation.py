"""Averages and votes: of which values, in which dtype."""

from __future__ import annotations

import math
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emloop_mtl import DataError
from emloop_mtl.models.aggregation import aggregate

from .built import vote


def test_what_cannot_be_counted_or_ordered_is_not_voted_on() -> None:
    for values in ([{1}, {1}], [1j, 2j]):
        with pytest.raises(DataError, match=f"a {type(values[0]).__name__} cannot be voted on; leave it out of 'outp"):
            aggregate(values, by_vote=True)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.int64, torch.float32),
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.bfloat16),
        (torch.complex64, torch.complex64),
    ],
    ids=str,
)
def test_a_mean_has_the_dtype_of_its_values_unless_they_are_whole(dtype: torch.dtype, expected: torch.dtype) -> None:
    found = aggregate([torch.tensor([1, 4], dtype=dtype), torch.tensor([2, 4], dtype=dtype)], by_vote=False)
    assert found.dtype == expected
    assert found.tolist() == [1.5, 4.0]


def test_values_of_other_shapes_or_kinds_are_an_error() -> None:
    with pytest.raises(DataError, match=r"different kinds of values: torch.float32 of shape \(2, 3\), .* \(2, 4\)"):
        aggregate([torch.zeros(2, 3), torch.zeros(2, 4)], by_vote=True)
    with pytest.raises(DataError, match="a list of 2 entries, a list of 3 entries"):
        aggregate([[1, 2], [1, 2, 3]], by_vote=True)
    with pytest.raises(DataError, match="different kinds of values"):
        aggregate([torch.zeros(2), torch.zeros(2, dtype=torch.int64)], by_vote=True)
    with pytest.raises(DataError, match="different kinds of values"):
        aggregate([{"a": 1.0}, {"b": 1.0}], by_vote=True)


@settings(max_examples=30)
@given(st.lists(st.lists(st.integers(-3, 3), min_size=4, max_size=4), min_size=1, max_size=7))
def test_the_most_frequent_value_wins_and_of_several_the_lowest(rows: list[list[int]]) -> None:
    expected = vote([torch.tensor(row) for row in rows]).tolist()
    assert aggregate([torch.tensor(row) for row in rows], by_vote=True).tolist() == expected
    voted = aggregate([np.array(row, dtype=np.int8) for row in rows], by_vote=True)
    assert (voted.tolist(), voted.dtype) == (expected, np.int8)
    assert aggregate(rows, by_vote=True) == expected


def test_halves_are_averaged_in_single_precision() -> None:
    values = [torch.tensor([40000.0], dtype=torch.float16)] * 3
    assert aggregate(values, by_vote=False).tolist() == [40000.0]
    assert aggregate([value.numpy() for value in values], by_vote=False).tolist() == [40000.0]


@pytest.mark.parametrize("by_vote", [False, True])
@pytest.mark.parametrize("make", [torch.tensor, np.array, list], ids=["tensor", "array", "list"])
def test_nan_of_one_is_nan_of_all(make: Callable[[list[float]], Any], by_vote: bool) -> None:
    one, other = aggregate([make([1.0, math.nan]), make([2.0, 3.0]), make([6.0, 4.0])], by_vote)
    assert one == 3.0
    assert math.isnan(other)


def test_named_tuples_stay_what_they_are() -> None:
    pairs = [torch.ones(2, 2).max(1), torch.zeros(2, 2).max(1)]
    found = aggregate(pairs, by_vote=True)
    assert type(found) is type(pairs[0])
    assert found.values.tolist() == [0.5, 0.5]
    Pair = namedtuple("Pair", ["one", "other"])
    assert aggregate([Pair(1.0, 2), Pair(3.0, 2)], by_vote=True) == Pair(2.0, 2)
