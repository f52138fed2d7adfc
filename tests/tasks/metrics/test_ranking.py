"""Average precision and the area under the ROC curve."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics
from torch import Tensor

from emloop_mtl.errors import ConfigError
from emloop_mtl.tasks.metrics import create_metric

from .splits import SIZES, TOLERANCE, at_once, quietly, streamed


def close(name: str, expected: float) -> Any:
    return pytest.approx({name: expected}, rel=TOLERANCE, abs=TOLERANCE, nan_ok=True)


@st.composite
def ranked(draw: st.DrawFn, of_their_own: bool) -> tuple[list[int], Tensor, Tensor]:
    """Sizes of the batches, labels [n, k] of their own or classes, and probabilities with ties."""
    sizes, columns = draw(SIZES), draw(st.integers(2 if of_their_own else 3, 4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    label = torch.randint(2, (sum(sizes), columns), generator=generator)
    if not of_their_own:
        label = torch.randint(draw(st.integers(1, columns)), (sum(sizes),), generator=generator)
    return sizes, label, torch.randint(0, 5, (sum(sizes), columns), generator=generator) / 4


def expected_of(name: str, average: str, golds: Tensor, probs: Tensor) -> float:
    """Return sklearn's score of labels 0 and 1 in columns; nan where a column that counts has no area."""
    if name == "average_precision":
        return float(quietly(sklearn_metrics.average_precision_score, golds.numpy(), probs.numpy(), average=average))
    ones, rows = golds.sum(0), len(golds)
    if average == "micro":
        undefined = bool(ones.sum() in (0, golds.numel()))
    else:
        counts = ones > 0 if average == "weighted" else torch.ones_like(ones, dtype=torch.bool)
        undefined = bool(((ones == 0) | (ones == rows))[counts].any()) or not counts.any()
    score = sklearn_metrics.roc_auc_score
    return math.nan if undefined else float(quietly(score, golds.numpy(), probs.numpy(), average=average))


@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
@pytest.mark.parametrize("name", ["average_precision", "roc_auc"])
@settings(max_examples=20)
@given(own=ranked(True), classes=ranked(False))
def test_averages_over_classes_and_labels_equal_sklearns(name: str, average: str, own: Any, classes: Any) -> None:
    for sizes, label, prob in (own, classes):
        metric = create_metric({"class": name, "average": average})
        golds = label if label.dim() > 1 else torch.eye(prob.shape[1], dtype=torch.long)[label]
        assert streamed(metric, sizes, label, prob, None) == close(name, expected_of(name, average, golds, prob))


@settings(max_examples=30)
@given(rows=ranked(False), column=st.booleans())
def test_average_precision_of_single_probabilities_equals_sklearns(rows: Any, column: bool) -> None:
    sizes, label, prob = rows
    label, prob = (label > 0).long(), prob[:, 0]
    score = quietly(sklearn_metrics.average_precision_score, label.numpy(), prob.numpy())
    metric = create_metric("average_precision")
    expected = close("average_precision", score)
    assert streamed(metric, sizes, label.float(), prob[:, None] if column else prob, None) == expected
    assert at_once(metric, label, torch.stack([1 - prob, prob], 1), None) == expected  # that of class 1


@pytest.mark.parametrize("name", ["average_precision", "roc_auc"])
def test_dense_labels_are_ranked_entry_by_entry_without_ignored_ones(name: str, no_waiting: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    label, prob = torch.randint(3, (4, 5), generator=generator), torch.rand(4, 3, 5, generator=generator)
    label[0, :3] = 255
    kept = label != 255
    expected = at_once(create_metric(name), label[kept], prob.movedim(1, 2)[kept], None)[name]
    metric = create_metric(name)
    metric.ignored_label = 255
    with no_waiting():
        metric.update(label, prob, None)
    assert metric.compute() == close(name, expected)
    own = create_metric(name)
    own.has_label_sets = True
    label, prob = torch.randint(2, (4, 3, 5), generator=generator), torch.rand(4, 3, 5, generator=generator)
    expected = at_once(create_metric(name), label.flatten(), prob.flatten(), None)[name]
    assert at_once(own, label, prob, None) == close(name, expected)


def test_average_precision_at_its_edges() -> None:
    def score(label: list[int], prob: list[float]) -> float:
        return at_once(create_metric("average_precision"), torch.tensor(label), torch.tensor(prob), None)[
            "average_precision"
        ]

    assert score([0, 0], [0.1, 0.2]) == 0.0
    assert score([1, 1], [0.1, 0.2]) == 1.0
    assert score([1], [0.1]) == 1.0
    assert math.isnan(score([0, 1], [0.1, math.inf]))
    assert math.isnan(score([0, 1, 2], [0.1, 0.2, 0.3]))


def test_an_unknown_average_is_refused() -> None:
    for name in ("average_precision", "roc_auc"):
        with pytest.raises(ConfigError, match="unknown average 'mirco'; did you mean 'micro'") as caught:
            create_metric({"class": name, "average": "mirco"})
        assert caught.value.path == ("average",)
