"""Log loss, Brier score and calibration error."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics
from sklearn.calibration import calibration_curve
from torch import Tensor

from emloop_mtl.errors import ConfigError, DataError
from emloop_mtl.tasks.metrics import Metric, create_metric

from .splits import SIZES, TOLERANCE, at_once, quietly, streamed

FLOAT32 = 1e-6  # relative; a dozen float32 operations round to a few units of 6e-8 each


def close(name: str, expected: float, tolerance: float = TOLERANCE) -> Any:
    return pytest.approx({name: expected}, rel=tolerance, abs=tolerance, nan_ok=True)


@st.composite
def classes(draw: st.DrawFn) -> tuple[int, list[int], Tensor, Tensor]:
    """Number of classes, sizes of the batches, labels, and float64 probabilities, 0 and 1 among them."""
    number, sizes = draw(st.integers(2, 5)), draw(SIZES)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    label = torch.randint(draw(st.integers(1, number)), (sum(sizes),), generator=generator)
    logits = torch.randn(sum(sizes), number, generator=generator, dtype=torch.float64)
    sharpness = draw(st.sampled_from([1.0, 20.0, 4000.0]))
    return number, sizes, label, (logits * sharpness).softmax(1)


def log_loss(label: Any, prob: Any) -> float:
    """Return sklearn's, told of all classes."""
    number = 2 if prob.ndim == 1 else prob.shape[1]
    return float(quietly(sklearn_metrics.log_loss, label, prob, labels=list(range(number))))


def brier(label: Any, prob: Any, **options: Any) -> float:
    if prob.ndim == 1:
        return float(quietly(sklearn_metrics.brier_score_loss, label, prob, pos_label=1, **options))
    return float(quietly(sklearn_metrics.brier_score_loss, label, prob, labels=list(range(prob.shape[1])), **options))


@settings(max_examples=40)
@given(rows=classes())
def test_scores_of_classes_equal_sklearns(rows: Any) -> None:
    _, sizes, label, prob = rows
    golds, probs = label.numpy(), prob.numpy()
    for name, expected in (("log_loss", log_loss(golds, probs)), ("brier_score", brier(golds, probs))):
        assert streamed(create_metric(name), sizes, label, prob, None) == close(name, expected)
        assert at_once(create_metric(name), label[:, None], prob, prob.argmax(1)) == close(name, expected)


@settings(max_examples=40)
@given(rows=classes(), column=st.booleans())
def test_scores_of_single_probabilities_equal_sklearns(rows: Any, column: bool) -> None:
    _, sizes, label, prob = rows
    label, prob = (label > 0).long(), prob[:, 0].clone()
    golds, probs = label.numpy(), prob.numpy()
    shaped = prob[:, None] if column else prob
    for name, expected in (("log_loss", log_loss(golds, probs)), ("brier_score", brier(golds, probs))):
        assert streamed(create_metric(name), sizes, label.float(), shaped, None) == close(name, expected)
        two_columns = torch.stack([1 - prob, prob], 1)
        assert at_once(create_metric(name), label, two_columns, None) == close(name, expected)


@pytest.mark.parametrize("half", [True, False])
def test_the_brier_score_may_be_halved_or_not(half: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    for number in (1, 2, 4):
        label = torch.randint(max(number, 2), (20,), generator=generator)
        prob = torch.rand(20, number, generator=generator, dtype=torch.float64)
        prob = prob[:, 0] if number == 1 else prob / prob.sum(1, keepdim=True)
        expected = brier(label.numpy(), prob.numpy(), scale_by_half=half)
        metric = create_metric({"class": "brier_score", "scale_by_half": half})
        assert at_once(metric, label, prob, None) == close("brier_score", expected)


def test_log_loss_of_float32_is_bounded_by_its_resolution() -> None:
    label, prob = torch.tensor([0, 1]), torch.tensor([[0.0, 1.0], [0.25, 0.75]])
    expected = log_loss(label.numpy(), prob.numpy())
    assert at_once(create_metric("log_loss"), label, prob, None) == close("log_loss", expected, FLOAT32)
    assert expected == pytest.approx((-math.log(np.finfo(np.float32).eps) - math.log(0.75)) / 2, rel=FLOAT32)


@pytest.mark.parametrize("known", [True, None])
def test_labels_of_their_own_are_scored_one_by_one(known: bool | None) -> None:
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(2, (30, 4), generator=generator)
    prob = torch.rand(30, 4, generator=generator, dtype=torch.float64)
    golds, probs = label.flatten().numpy(), prob.flatten().numpy()
    pred = None if known else (prob > 0.5).long()
    for name, expected in (
        ("log_loss", log_loss(golds, probs)),
        ("brier_score", brier(golds, probs)),
        ("calibration_error", calibration(golds, probs, 15)),
    ):
        metric = create_metric(name)
        metric.has_label_sets = known
        assert at_once(metric, label.float(), prob, pred) == close(name, expected)


def test_labels_may_be_probabilities_of_classes() -> None:
    generator = torch.Generator().manual_seed(0)
    label, prob = torch.rand(2, 20, 4, generator=generator, dtype=torch.float64).softmax(2)
    expected = torch.nn.functional.cross_entropy(prob.log(), label).item()
    assert at_once(create_metric("log_loss"), label, prob, None) == close("log_loss", expected)
    expected = (label - prob).square().sum(1).mean().item()
    assert at_once(create_metric("brier_score"), label, prob, None) == close("brier_score", expected)
    one_hot = torch.eye(4)[label.argmax(1)]
    name = "calibration_error"
    expected = at_once(create_metric(name), label.argmax(1), prob, None)[name]
    assert at_once(create_metric(name), one_hot, prob, None) == close(name, expected)


@pytest.mark.parametrize("name", ["log_loss", "brier_score", "calibration_error"])
def test_dense_labels_are_scored_entry_by_entry_without_ignored_ones(name: str, no_waiting: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(3, (4, 5), generator=generator)
    prob = torch.rand(4, 3, 5, generator=generator, dtype=torch.float64).softmax(1)
    label[0, :3] = 255
    prob[0, :, 0] = math.nan
    kept = label != 255
    expected = at_once(create_metric(name), label[kept], prob.movedim(1, 2)[kept], None)[name]
    metric = create_metric(name)
    metric.ignored_label = 255
    with no_waiting():
        metric.update(label, prob, None)
    assert metric.compute() == close(name, expected)
    assert 0 < expected < 10


# ------------------------------------------------------------------------------------------------------- calibration


def calibration(label: Any, prob: Any, bins: int, norm: str = "l1") -> float:
    """Return the calibration error of single probabilities, bin by bin."""
    number = np.clip(np.ceil(prob * bins).astype(int) - 1, 0, bins - 1)
    gaps = []
    for each in range(bins):
        inside = number == each
        if inside.any():
            gaps.append((inside.mean(), abs(label[inside].mean() - prob[inside].mean())))
    if norm == "max":
        return float(max(gap for _, gap in gaps))
    power = 1 if norm == "l1" else 2
    return float(sum(share * gap**power for share, gap in gaps) ** (1 / power))


@settings(max_examples=40)
@given(rows=classes(), bins=st.integers(1, 12), norm=st.sampled_from(["l1", "l2", "max"]))
def test_the_calibration_error_is_that_of_the_bins(rows: Any, bins: int, norm: str) -> None:
    _, sizes, label, prob = rows
    name = "calibration_error"
    metric = create_metric({"class": name, "bins": bins, "norm": norm})
    sure, found = prob.max(1)
    expected = calibration((found == label).double().numpy(), sure.numpy(), bins, norm)
    assert streamed(metric, sizes, label, prob, None) == close(name, expected, 1e-9)  # roots of sums of squares
    binary = (label > 0).long()
    expected = calibration(binary.double().numpy(), prob[:, 0].numpy(), bins, norm)
    assert streamed(metric.fresh(), sizes, binary, prob[:, 0], None) == close(name, expected, 1e-9)


@settings(max_examples=20)
@given(numbers=st.lists(st.integers(0, 20), min_size=4, max_size=40), bins=st.sampled_from([1, 2, 4, 5, 10]))
def test_bins_are_those_of_sklearns_calibration_curve(numbers: list[int], bins: int) -> None:
    """Also of probabilities at the borders."""
    prob = torch.tensor(numbers, dtype=torch.float64) / 20
    label = (torch.arange(len(numbers)) % 3 > 0).long()
    shares, means = calibration_curve(label.numpy(), prob.numpy(), n_bins=bins)
    metric = create_metric({"class": "calibration_error", "bins": bins, "norm": "max"})
    expected = float(np.abs(shares - means).max())
    assert at_once(metric, label, prob, None) == close("calibration_error", expected)


def test_well_calibrated_probabilities_have_no_error() -> None:
    label, prob = torch.tensor([0, 1, 0, 0, 0, 1]), torch.tensor([0.5, 0.5, 0.25, 0.25, 0.25, 0.25])
    assert at_once(create_metric("calibration_error"), label, prob, None) == {"calibration_error": 0.0}


# -------------------------------------------------------------------------------------------------------------- edges


@pytest.mark.parametrize("name", ["log_loss", "brier_score", "calibration_error"])
def test_edges_of_scores_of_probabilities(name: str) -> None:
    def score(label: Tensor, prob: Tensor) -> float:
        return at_once(create_metric(name), label, prob, None)[name]

    def refused(metric: Metric, label: Tensor, prob: Tensor | None) -> str:
        with pytest.raises((ConfigError, DataError)) as caught:
            at_once(metric, label, prob, None)
        return str(caught.value)

    assert math.isnan(score(torch.tensor([0, 1]), torch.tensor([[0.5, 0.5], [0.5, math.nan]])))
    assert math.isnan(score(torch.tensor([0, 1]), torch.tensor([0.5, math.nan])))
    assert score(torch.tensor([1]), torch.tensor([[0.0, 1.0]])) < FLOAT32
    assert "1 labels are no class that has a probability" in refused(
        create_metric(name), torch.tensor([0, 2]), torch.rand(2, 2)
    )
    assert "1 labels are no class" in refused(create_metric(name), torch.tensor([0, -1]), torch.rand(2))
    assert "needs 'prob', and there is none" in refused(create_metric(name), torch.tensor([0]), None)
    assert "labels of shape (3,) do not fit" in refused(create_metric(name), torch.zeros(3).long(), torch.rand(2, 2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bins": 0}, "bins must be a whole number > 0, not 0"),
        ({"bins": 2.5}, "bins must be a whole number > 0, not 2.5"),
        ({"norm": "l3"}, "unknown norm 'l3'"),
    ],
)
def test_wrong_options_of_the_calibration_error_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        create_metric({"class": "calibration_error", **options})
    assert caught.value.path == tuple(options)
