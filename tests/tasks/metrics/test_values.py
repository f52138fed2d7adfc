"""R² and the mean absolute error."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from emloop_mtl.errors import ConfigError, DataError
from emloop_mtl.tasks.metrics import create_metric

from .splits import SIZES, TOLERANCE, at_once, quietly, streamed


@pytest.mark.parametrize("multioutput", ["uniform_average", "variance_weighted"])
@settings(max_examples=40)
@given(
    sizes=SIZES,
    columns=st.integers(0, 3),
    seed=st.integers(0, 2**31),
    constant=st.booleans(),
    right=st.booleans(),
)
def test_r2_equals_sklearns_for_any_split(
    multioutput: str, sizes: list[int], columns: int, seed: int, constant: bool, right: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    shape = (sum(sizes), columns) if columns else (sum(sizes),)
    # Small whole numbers, whose mean is exact where all are the same, so that sklearn finds no variance either.
    label = torch.randint(-3, 4, shape, generator=generator).double()
    prob = label + torch.randn(shape, generator=generator, dtype=torch.float64)
    if constant:
        label[..., :1] = 2.0
    if right:
        prob[..., :1] = label[..., :1]
    expected = math.nan
    if len(label) > 1:
        expected = quietly(sklearn_metrics.r2_score, label.numpy(), prob.numpy(), multioutput=multioutput)
    metric = create_metric({"class": "r2", "multioutput": multioutput})
    close = pytest.approx({"r2": expected}, rel=1e-11, abs=1e-11, nan_ok=True)  # a quotient of two such sums
    assert streamed(metric, sizes, label, prob, None) == close
    assert at_once(metric, label, prob, None) == close


@settings(max_examples=30)
@given(sizes=SIZES, columns=st.integers(0, 3), seed=st.integers(0, 2**31))
def test_mean_absolute_error_equals_sklearns_for_any_split(sizes: list[int], columns: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    shape = (sum(sizes), columns) if columns else (sum(sizes),)
    label, prob = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    expected = sklearn_metrics.mean_absolute_error(label.numpy(), prob.numpy())
    found = streamed(create_metric("mean_absolute_error"), sizes, label, prob, None)
    assert found == pytest.approx({"mean_absolute_error": expected}, rel=TOLERANCE, abs=TOLERANCE)


def test_a_large_offset_costs_r2_no_digits() -> None:
    generator = torch.Generator().manual_seed(0)
    label, noise = torch.randn(2, 60, generator=generator, dtype=torch.float64)
    prob = label + noise / 4
    expected = at_once(create_metric("r2"), label, prob, None)["r2"]
    found = streamed(create_metric("r2"), [7] * 8 + [4], label + 1e6, prob + 1e6, None)["r2"]
    assert found == pytest.approx(expected, rel=1e-9)  # numbers near 1e6 are exact to 1e-10


def test_columns_and_images_of_values() -> None:
    label, prob = torch.rand(6, dtype=torch.float64), torch.rand(6, dtype=torch.float64)
    for name in ("r2", "mean_absolute_error"):
        expected = at_once(create_metric(name), label, prob, None)
        assert at_once(create_metric(name), label[:, None], prob, None) == expected
    label, prob = torch.rand(2, 6, 2, 2, dtype=torch.float64)
    expected = sklearn_metrics.r2_score(label.flatten(1).numpy(), prob.flatten(1).numpy())
    # Sums in another order.
    assert at_once(create_metric("r2"), label, prob, None)["r2"] == pytest.approx(expected, rel=1e-11)


def test_r2_at_its_edges() -> None:
    def score(label: list[float], prob: list[float]) -> float:
        return at_once(create_metric("r2"), torch.tensor(label), torch.tensor(prob), None)["r2"]

    assert math.isnan(score([1.0], [1.0]))
    assert score([0.1, 0.1, 0.1], [0.1, 0.1, 0.1]) == 1.0
    assert score([0.1, 0.1, 0.1], [0.1, 0.2, 0.1]) == 0.0
    assert math.isnan(score([1.0, 2.0], [math.nan, 1.0]))
    assert math.isnan(score([1.0, 1.0], [math.nan, 1.0]))
    assert math.isnan(score([1.0, math.nan], [1.0, 1.0]))


def test_what_r2_refuses() -> None:
    with pytest.raises(ConfigError, match="unknown multioutput 'variance'; did you mean 'variance_weighted'"):
        create_metric({"class": "r2", "multioutput": "variance"})
    metric = create_metric("r2")
    metric.update(torch.rand(3, 2), torch.rand(3, 2), None)
    with pytest.raises(DataError, match="the number of values per row differs between batches"):
        metric.update(torch.rand(3, 4), torch.rand(3, 4), None)
    with pytest.raises(DataError, match="do not fit what is predicted"):
        create_metric("r2").update(torch.tensor([0, 1]), torch.rand(2, 3), None)


def test_values_are_scored_without_waiting(no_waiting: Any) -> None:
    for name in ("r2", "mean_absolute_error"):
        metric = create_metric(name)
        with no_waiting():
            for _ in range(3):
                metric.update(torch.rand(4, 2), torch.rand(4, 2), None)
        assert not math.isnan(metric.compute()[name])
