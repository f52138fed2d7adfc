from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from emloop_mtl.errors import ConfigError, DataError
from emloop_mtl.tasks.metrics import Metric, create_metric

EXACT = 1e-9  # relative: what the scores are promised to keep of float64's 16 digits

NAMES = ["pearson_correlation", "spearman_correlation"]


def collect(metric: Metric, sizes: list[int], label: Tensor, prob: Tensor) -> dict[str, float]:
    for part, values in zip(label.split(sizes), prob.split(sizes), strict=True):
        metric.update(part, values, None)
    return metric.compute()


def expected(name: str, label: Tensor, prob: Tensor) -> tuple[float, float]:
    """Return what SciPy says, and nan where it refuses to say anything."""
    arrays = [each.double().reshape(-1).numpy() for each in (label, prob)]
    if len(arrays[0]) < 2 or any(np.ptp(array) == 0 for array in arrays):
        return math.nan, math.nan
    found = (stats.pearsonr if name == "pearson_correlation" else stats.spearmanr)(*arrays)
    return float(found.statistic), float(found.pvalue)


@st.composite
def split_rows(draw: st.DrawFn) -> tuple[list[int], Tensor, Tensor]:
    """Sizes of the batches (some empty), labels and values [n]: with ties, integers, an offset, or all but equal."""
    sizes = draw(st.lists(st.integers(0, 12), min_size=1, max_size=8))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    label = torch.randn(sum(sizes), generator=generator, dtype=torch.float64)
    prob = draw(st.sampled_from([0.0, 0.9, -0.5])) * label
    prob = prob + torch.randn(sum(sizes), generator=generator, dtype=torch.float64)
    kind = draw(st.sampled_from(["plain", "ties", "integers", "offset", "float32"]))
    if kind == "ties":
        label, prob = label.round(), prob.round()
    if kind == "integers":
        label = label.round().long()
    if kind == "offset":
        label, prob = label + 1e6, prob - 1e6
    if kind == "float32":
        label, prob = label.float(), prob.float()
    return sizes, label, prob


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=80, deadline=None)
@given(rows=split_rows(), column=st.booleans())
def test_correlations_and_their_p_values_equal_scipys_for_any_split(name: str, rows: Any, column: bool) -> None:
    sizes, label, prob = rows
    metric = create_metric({"class": name, "return_pvalue": True})
    found = collect(metric, sizes, label[:, None] if column else label, prob[:, None] if column else prob)
    correlation, pvalue = expected(name, label, prob)
    assert list(found) == [name, name.replace("correlation", "pvalue")]
    # Close to 0 a correlation is a difference of larger numbers, whose rounding stays: 1e-12 of 1.
    assert found[name] == pytest.approx(correlation, rel=EXACT, abs=1e-12, nan_ok=True)
    assert list(found.values())[1] == pytest.approx(pvalue, rel=EXACT, nan_ok=True)


@settings(max_examples=40, deadline=None)
@given(rows=split_rows())
def test_the_mean_of_both_is_scipys_for_any_split(rows: Any) -> None:
    sizes, label, prob = rows
    found = collect(create_metric("pearson_spearman"), sizes, label, prob)
    mean = (expected(NAMES[0], label, prob)[0] + expected(NAMES[1], label, prob)[0]) / 2
    assert found == pytest.approx({"pearson_spearman": mean}, rel=EXACT, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("batch", [1, 7, 1000])
@pytest.mark.parametrize("offset", [0.0, 1e6, -1e9])
def test_a_large_offset_costs_pearson_no_digits(offset: float, batch: int) -> None:
    """Sums of squares of numbers around 1e6 would leave four digits of their variance, around 1e9 none."""
    generator = torch.Generator().manual_seed(3)
    label = torch.rand(3000, generator=generator, dtype=torch.float64) * 2 - 1 + offset
    prob = label - offset + torch.rand(3000, generator=generator, dtype=torch.float64) * 4 - offset
    metric = create_metric({"class": "pearson_correlation", "return_pvalue": True})
    found = collect(metric, [batch] * (3000 // batch) + [3000 % batch], label, prob)
    correlation, pvalue = expected("pearson_correlation", label, prob)
    # Sums of float64 in another order.
    assert found["pearson_correlation"] == pytest.approx(correlation, rel=1e-12)
    assert found["pearson_pvalue"] == pytest.approx(pvalue, rel=EXACT)  # about 1e-200, and so 1000 times as touchy


@pytest.mark.parametrize("batch", [1, 37])
def test_data_far_from_its_first_row_costs_pearson_no_digits(batch: int) -> None:
    """The first row, which all others are measured from, lies 1e4 away; both correlations are far from 1."""
    generator = torch.Generator().manual_seed(4)
    label = torch.rand(1000, generator=generator, dtype=torch.float64)
    prob = label + torch.rand(1000, generator=generator, dtype=torch.float64)
    label[0], prob[1] = 1e4, 1e4
    sizes = [batch] * (1000 // batch) + [1000 % batch]
    found = collect(create_metric("pearson_correlation"), sizes, label, prob)["pearson_correlation"]
    assert found == pytest.approx(expected("pearson_correlation", label, prob)[0], rel=EXACT)
    assert abs(found) < 0.1


@pytest.mark.parametrize("name", [*NAMES, "pearson_spearman"])
@pytest.mark.parametrize("constant", [0.1, 1e6 + 0.3, 1 / 3])
def test_constant_data_gives_nan_however_it_is_split(name: str, constant: float) -> None:
    same, other = torch.full((7,), constant, dtype=torch.float64), torch.arange(7)
    for label, prob in ((same, other), (other, same), (same, same)):
        for sizes in ([7], [3, 4], [1] * 7):
            assert math.isnan(collect(create_metric(name), sizes, label, prob)[name])


@pytest.mark.parametrize("name", [*NAMES, "pearson_spearman"])
@pytest.mark.parametrize("rows", [0, 1])
def test_fewer_than_two_rows_give_nan(name: str, rows: int) -> None:
    settings = {} if name == "pearson_spearman" else {"return_pvalue": True}
    metric = create_metric({"class": name, **settings})
    found = collect(metric, [rows], torch.zeros(rows), torch.ones(rows))
    assert tuple(found) == metric.names
    assert all(map(math.isnan, found.values()))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("label", [[1.0, 2.0], [2.0, 1.0], [1.0, 1.0]])
def test_two_rows_say_what_scipy_says(name: str, label: list[float]) -> None:
    columns = torch.tensor(label), torch.tensor([0.5, 3.0])
    found = collect(create_metric({"class": name, "return_pvalue": True}), [1, 1], *columns)
    assert tuple(found.values()) == pytest.approx(expected(name, *columns), rel=EXACT, nan_ok=True)


def test_no_rounding_leads_beyond_the_strongest_correlation() -> None:
    """Some of these are more than 1 as they are computed, and would have no p-value."""
    for seed in range(50):
        label = torch.rand(9, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        for slope in (0.1, -3.0):
            found = collect(create_metric({"class": NAMES[0], "return_pvalue": True}), [4, 5], label, slope * label + 1)
            assert 1 - 1e-12 < abs(found[NAMES[0]]) <= 1
            assert found["pearson_pvalue"] < 1e-20


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite_give_nan(value: float) -> None:
    label, prob = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, value, 2.0])
    assert math.isnan(collect(create_metric("pearson_correlation"), [2, 1], label, prob)["pearson_correlation"])
    if math.isnan(value):  # infinity has a rank
        assert math.isnan(collect(create_metric("spearman_correlation"), [2, 1], label, prob)["spearman_correlation"])


def test_float32_data_is_correlated_in_float64() -> None:
    generator = torch.Generator().manual_seed(5)
    label = torch.rand(50, generator=generator)
    prob = label * 0.5 + torch.rand(50, generator=generator)
    found = collect(create_metric("pearson_spearman"), [20, 30], label, prob)["pearson_spearman"]
    mean = (expected(NAMES[0], label, prob)[0] + expected(NAMES[1], label, prob)[0]) / 2
    assert found == pytest.approx(mean, rel=1e-12)  # likewise


@pytest.mark.parametrize("cut", range(6))
def test_a_correlation_restored_in_mid_epoch_ends_with_the_same_bits(cut: int) -> None:
    generator = torch.Generator().manual_seed(cut)
    batches = [torch.rand(2, size, generator=generator) for size in (3, 0, 1, 5, 2)]
    for name in (*NAMES, "pearson_spearman"):
        straight, first, second = (create_metric(name) for _ in range(3))
        for metric, part in ((straight, batches), (first, batches[:cut])):
            for label, prob in part:
                metric.update(label, prob, None)
        file = io.BytesIO()
        torch.save(first.state_dict(), file)
        file.seek(0)
        second.load_state_dict(torch.load(file, weights_only=True))
        for label, prob in batches[cut:]:
            second.update(label, prob, None)
        assert second.compute() == straight.compute()


@pytest.mark.parametrize("name", [*NAMES, "pearson_spearman"])
def test_one_number_per_row_is_needed(name: str) -> None:
    with pytest.raises(DataError, match="needs one number per row, but labels have the shape"):
        create_metric(name).update(torch.rand(3, 2), torch.rand(3, 2), None)
    with pytest.raises(DataError, match="do not fit what is predicted"):
        create_metric(name).update(torch.rand(3), torch.rand(3, 2), None)
    with pytest.raises(ConfigError, match="compares labels with 'prob', and there is none"):
        create_metric(name).update(torch.rand(3), None, torch.rand(3))


def test_only_labels_and_values_are_kept() -> None:
    metric = create_metric("spearman_correlation")
    metric.update(torch.rand(3), torch.rand(3, 1), torch.rand(3, 1))
    assert {kind: tuple(rows.shape) for kind, rows in metric.state_dict().items()} == {"label": (3,), "prob": (3,)}
