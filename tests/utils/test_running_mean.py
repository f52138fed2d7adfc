from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from emloop_mtl.utils.running_mean import RunningMean
from emloop_mtl.utils.running_means import FOLD_AFTER

values = st.lists(st.tuples(st.floats(-1e3, 1e3, width=32), st.integers(0, 50)), max_size=3 * FOLD_AFTER)


@given(values, st.booleans())
def test_it_is_the_weighted_mean(pairs: list[tuple[float, int]], on_device: bool) -> None:
    mean = RunningMean()
    for value, weight in pairs:
        mean.add(torch.tensor(value) if on_device else value, weight)
    weight = sum(weight for _, weight in pairs)
    assert mean.weight == weight
    if weight == 0:
        assert math.isnan(mean.result())
    else:
        exact = sum(Fraction(value) * weight for value, weight in pairs) / weight
        # fewer than 400 products of at most 5e4, each rounded to 2**-53 of the sum's size
        assert mean.result() == pytest.approx(float(exact), abs=1e-8)


@given(values, st.integers(0, 3 * FOLD_AFTER), st.booleans())
def test_saving_and_restoring_change_no_bit(pairs: list[tuple[float, int]], cut: int, with_numbers: bool) -> None:
    def add(mean: RunningMean, some: list[tuple[float, int]]) -> None:
        for index, (value, weight) in enumerate(some):
            mean.add(value if with_numbers and index % 3 == 0 else torch.tensor(value), weight)

    straight, first, second = RunningMean(), RunningMean(), RunningMean()
    cut -= cut % 3  # so that numbers and tensors alternate alike
    add(straight, pairs)
    add(first, pairs[:cut])
    state = first.state_dict()
    first.add(torch.tensor(1.0), 1)  # must not change what was saved
    second.load_state_dict(state)
    add(second, pairs[cut:])
    assert repr(second.result()) == repr(straight.result())
    assert repr(second.result()) == repr(second.result())


def test_a_value_of_weight_0_counts_nothing_even_if_it_is_undefined() -> None:
    mean = RunningMean()
    mean.add(torch.tensor(float("nan")), 0)
    mean.add(2.0, 3)
    assert mean.result() == 2
    mean.add(torch.tensor(float("nan")), 1)
    assert math.isnan(mean.result())


def test_values_of_several_precisions_are_added_in_float64() -> None:
    mean = RunningMean()
    for _ in range(FOLD_AFTER):
        mean.add(torch.tensor(1.0, dtype=torch.bfloat16))
        mean.add(torch.tensor(2.0**-40, dtype=torch.float64))
    assert mean.result() == (1 + 2.0**-40) / 2


def test_gradients_are_not_kept() -> None:
    mean = RunningMean()
    mean.add(torch.ones((), requires_grad=True) * 2)
    assert not mean.state_dict()["pending"].requires_grad


class Count(TorchDispatchMode):
    """Counts the operations and refuses the one that waits for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func.overloadpacket.__name__ not in ("_local_scalar_dense", "item")
        self.count += func.overloadpacket.__name__ != "detach"
        return func(*args, **(kwargs or {}))


def test_adding_does_not_wait_for_the_device_and_mostly_costs_nothing() -> None:
    mean = RunningMean()
    value = torch.tensor(0.5)
    with Count() as operations:
        for _ in range(FOLD_AFTER - 1):
            mean.add(value, 2)
        assert operations.count == 0
        mean.add(value, 2)
        assert operations.count > 0
    assert mean.result() == 0.5
