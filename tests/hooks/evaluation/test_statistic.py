from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emloop_mtl.hooks.evaluation.statistic import AGGREGATIONS, Statistic

NUMBERS = st.floats(-1e3, 1e3, width=32) | st.just(math.nan)


def run(aggregation: str, batches: list[torch.Tensor]) -> float:
    statistic = Statistic(aggregation)
    for batch in batches:
        statistic.add(batch, len(batch))
    return statistic.result()


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@settings(max_examples=30)
@given(batches=st.lists(st.lists(NUMBERS, min_size=1, max_size=4), min_size=1, max_size=5))
def test_every_aggregation_is_numpys_over_all_values(aggregation: str, batches: list[list[float]]) -> None:
    values = np.array([value for batch in batches for value in batch], dtype=np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        expected = float(AGGREGATIONS[aggregation](values))
    result = run(aggregation, [torch.tensor(batch, dtype=torch.float32) for batch in batches])
    # float32 values are added up in float64 in another order: some 20 roundings of 1e-16 to values of up to 1e3,
    # which cancel out in the worst case
    assert result == pytest.approx(expected, rel=1e-12, abs=1e-10, nan_ok=True)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_a_restored_statistic_goes_on_exactly(aggregation: str) -> None:
    batches = list(torch.randn(300, 3, generator=torch.Generator().manual_seed(0)).unbind())
    restored = Statistic(aggregation)
    halfway = Statistic(aggregation)
    for batch in batches[:200]:
        halfway.add(batch, 3)
    restored.load_state_dict(halfway.state_dict())
    for batch in batches[200:]:
        restored.add(batch, 3)
    assert restored.result() == run(aggregation, batches)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.uint8, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("aggregation", ["mean", "sum", "min", "max", "median", "count_nonzero", "nancount"])
def test_every_kind_of_number_is_taken(aggregation: str, dtype: torch.dtype) -> None:
    values = [0, 1, 1, 1]
    expected = 0 if aggregation == "nancount" else AGGREGATIONS[aggregation](np.array(values))
    assert run(aggregation, [torch.tensor(values, dtype=dtype)]) == expected


def test_means_of_batch_values_are_weighted_and_shares_are_not() -> None:
    mean, share = Statistic("mean"), Statistic("nanfraction")
    for value, weight in ((1.0, 3), (5.0, 1)):
        mean.add(torch.tensor(value), weight)
        share.add(torch.tensor(math.nan if weight == 1 else value), weight)
    assert mean.result() == 2.0
    assert share.result() == 0.5


def test_without_values_the_result_is_nan() -> None:
    assert all(math.isnan(Statistic(name).result()) for name in AGGREGATIONS)
