"""Precision, recall and F-scores of several classes, and of several labels per row."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics
from torch import Tensor

from emloop_mtl.errors import ConfigError, DataError
from emloop_mtl.tasks.metrics import create_metric
from emloop_mtl.tasks.scorer import Scorer

from .splits import SIZES, TOLERANCE, at_once, quietly, streamed

KINDS: dict[str, Any] = {
    "precision": sklearn_metrics.precision_score,
    "recall": sklearn_metrics.recall_score,
    "f1": sklearn_metrics.f1_score,
}
UNDEFINED = st.sampled_from([0.0, 1.0, math.nan])


@st.composite
def label_sets(draw: st.DrawFn) -> tuple[list[int], Tensor, Tensor]:
    """Sizes of the batches, labels [n, k] and probabilities of them; some rows and columns are empty."""
    sizes, columns = draw(SIZES), draw(st.integers(2, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    share = draw(st.sampled_from([0.0, 0.15, 0.5, 0.9]))
    label = (torch.rand(sum(sizes), columns, generator=generator) < share).long()
    label[:, 0] *= draw(st.integers(0, 1))
    prob = torch.randint(0, 5, (sum(sizes), columns), generator=generator) / 4
    prob[:, 0] *= draw(st.integers(0, 1))
    return sizes, label, prob


@st.composite
def classes(draw: st.DrawFn) -> tuple[int, list[int], Tensor, Tensor]:
    """Number of classes, sizes of the batches, labels, and probabilities; some classes do not occur."""
    number, sizes = draw(st.integers(2, 5)), draw(SIZES)
    occurring = draw(st.integers(1, number))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    label = torch.randint(occurring, (sum(sizes),), generator=generator)
    prob = torch.rand(sum(sizes), number, generator=generator)
    prob[:, draw(st.integers(0, number - 1))] = 0.0
    return number, sizes, label, prob


def close(expected: Any) -> Any:
    return pytest.approx(expected, rel=TOLERANCE, abs=TOLERANCE, nan_ok=True)


@pytest.mark.parametrize("average", ["macro", "micro", "weighted", "samples"])
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15)
@given(rows=label_sets(), undefined=UNDEFINED, form=st.sampled_from(["prob", "pred", "both"]))
def test_averages_over_labels_of_their_own_equal_sklearns_multilabel_ones(
    kind: str, average: str, rows: Any, undefined: float, form: str
) -> None:
    sizes, label, prob = rows
    pred = (prob > 0.5).long()
    metric = create_metric({"class": kind, "average": average, "zero_division": undefined})
    metric.has_label_sets = True
    given_rows = label, None if form == "pred" else prob, None if form == "prob" else pred
    expected = quietly(KINDS[kind], label.numpy(), pred.numpy(), average=average, zero_division=undefined)
    assert streamed(metric, sizes, *given_rows) == close({f"{kind}_{average}": expected})
    assert at_once(metric, *given_rows) == close({f"{kind}_{average}": expected})


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15)
@given(rows=label_sets(), undefined=UNDEFINED)
def test_each_label_has_a_score_of_its_own(kind: str, rows: Any, undefined: float) -> None:
    sizes, label, prob = rows
    pred = (prob > 0.5).long()
    metric = create_metric({"class": kind, "average": "per_class", "zero_division": undefined})
    expected = quietly(KINDS[kind], label.numpy(), pred.numpy(), average=None, zero_division=undefined)
    named = {f"{kind}_of_{number}": score for number, score in enumerate(expected.tolist())}
    assert streamed(metric, sizes, label, prob, pred) == close(named)  # told by the shapes


@pytest.mark.parametrize("average", ["macro", "micro", "weighted", "per_class"])
@pytest.mark.parametrize("kind", [*KINDS, "fbeta"])
@settings(max_examples=15)
@given(rows=classes(), undefined=UNDEFINED)
def test_averages_over_classes_equal_sklearns(kind: str, average: str, rows: Any, undefined: float) -> None:
    number, sizes, label, prob = rows
    pred = prob.argmax(1)
    options = {"beta": 0.5} if kind == "fbeta" else {}
    metric = create_metric({"class": kind, "average": average, "zero_division": undefined, **options})
    score = KINDS.get(kind, sklearn_metrics.fbeta_score)
    options["zero_division"] = undefined
    name = "f0.5" if kind == "fbeta" else kind
    if average == "per_class":
        found = quietly(score, label.numpy(), pred.numpy(), average=None, labels=range(number), **options)
        expected = {f"{name}_of_{index}": value for index, value in enumerate(found.tolist())}
    else:
        expected = {f"{name}_{average}": quietly(score, label.numpy(), pred.numpy(), average=average, **options)}
    assert streamed(metric, sizes, label, prob, pred) == close(expected)
    assert at_once(metric, label, prob, None) == close(expected)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15)
@given(rows=classes(), undefined=UNDEFINED, positive=st.integers(0, 5))
def test_one_class_against_the_rest_equals_sklearns(kind: str, rows: Any, undefined: float, positive: int) -> None:
    _, sizes, label, prob = rows
    metric = create_metric({"class": kind, "positive": positive, "zero_division": undefined})
    golds, preds = ((values == positive).long().numpy() for values in (label, prob.argmax(1)))
    expected = quietly(KINDS[kind], golds, preds, zero_division=undefined)
    assert streamed(metric, sizes, label, prob, None) == close({kind: expected})


@settings(max_examples=30)
@given(rows=classes(), adjusted=st.booleans())
def test_balanced_accuracy_equals_sklearns(rows: Any, adjusted: bool) -> None:
    _, sizes, label, prob = rows
    metric = create_metric({"class": "balanced_accuracy", "adjusted": adjusted})
    pred = prob.argmax(1)
    expected = math.nan  # where sklearn divides by 0
    if not adjusted or len(label.unique()) > 1:
        function = sklearn_metrics.balanced_accuracy_score
        expected = quietly(function, label.numpy(), pred.numpy(), adjusted=adjusted)
    assert streamed(metric, sizes, label, prob, pred) == close({"balanced_accuracy": expected})


@settings(max_examples=30)
@given(rows=label_sets())
def test_exact_match_and_hamming_loss_equal_sklearns_multilabel_ones(rows: Any) -> None:
    sizes, label, prob = rows
    pred = (prob > 0.5).long()
    golds, preds = label.numpy(), pred.numpy()
    for name, expected in (
        ("exact_match", sklearn_metrics.accuracy_score(golds, preds)),
        ("hamming_loss", sklearn_metrics.hamming_loss(golds, preds)),
        ("accuracy", 1 - sklearn_metrics.hamming_loss(golds, preds)),
        ("f1", quietly(sklearn_metrics.f1_score, golds.ravel(), preds.ravel(), zero_division=0)),
    ):
        assert streamed(create_metric(name), sizes, label, prob, pred) == close({name: expected})


def test_f1_micro_of_labels_of_their_own_is_not_the_share_of_right_entries() -> None:
    """Few of many labels being 1, predicting none of them is nearly always right, and worth nothing."""
    label = torch.zeros(10, 20, dtype=torch.long)
    label[:, 3] = 1
    scores = Scorer(["accuracy", "f1_micro", "f1_macro", "exact_match"]).score(label, None, torch.zeros_like(label))
    assert scores == {"accuracy": 0.95, "f1_micro": 0.0, "f1_macro": 0.0, "exact_match": 0.0}


def test_ignored_entries_of_labels_of_their_own_do_not_count(no_waiting: Any) -> None:
    label = torch.tensor([[1, 0, 255], [255, 1, 1], [255, 255, 255]])
    pred = torch.tensor([[1, 1, 1], [0, 1, 0], [1, 1, 1]])
    expected = {"f1_macro": (1 + 2 / 3 + 0) / 3, "f1_micro": 4 / 6, "exact_match": 0.0}
    for name, value in expected.items():
        metric = create_metric(name)
        metric.has_label_sets, metric.ignored_label = True, 255
        with no_waiting():
            metric.update(label, None, pred)
        assert metric.compute() == close({name: value})


def test_dense_classes_are_no_labels_of_their_own() -> None:
    """Labels [n, 2] of the classes 0 and 1, with probabilities [n, classes, 2]."""
    label, prob = torch.tensor([[0, 1], [1, 1], [0, 0]]), torch.rand(3, 2, 2)
    pred = prob.argmax(1)
    expected = sklearn_metrics.f1_score(label.reshape(-1), pred.reshape(-1), average="macro", zero_division=0)
    assert at_once(create_metric("f1_macro"), label, prob, pred) == close({"f1_macro": expected})


def test_names_of_single_classes_are_known_with_their_number() -> None:
    metric = create_metric({"class": "recall", "average": "per_class"})
    assert (metric.names, metric.names_are_known) == (("recall_per_class",), False)
    metric.num_classes = 2
    assert (metric.names, metric.names_are_known) == (("recall_of_0", "recall_of_1"), True)
    assert list(metric.compute()) == ["recall_of_0", "recall_of_1"]
    assert create_metric({"class": "f1", "average": "per_class", "name": "x"}).names == ("x",)


def test_labels_that_are_neither_0_nor_1_are_told() -> None:
    for name in ("f1_macro", "f1_micro", "f1_samples"):
        metric = create_metric(name)
        metric.has_label_sets = True
        metric.update(torch.tensor([[0, 2], [1, 0]]), None, torch.zeros(2, 2, dtype=torch.long))
        with pytest.raises(DataError, match=rf"'{name}': 1 labels or predictions are outside 0\.\.1"):
            metric.compute()


def test_the_number_of_labels_must_not_change() -> None:
    metric = create_metric("f1_macro")
    metric.has_label_sets = True
    metric.update(torch.zeros(2, 3), None, torch.zeros(2, 3, dtype=torch.long))
    with pytest.raises(DataError, match="number of classes differs between batches"):
        metric.update(torch.zeros(2, 4), None, torch.zeros(2, 4, dtype=torch.long))


@pytest.mark.parametrize(
    ("options", "message", "path"),
    [
        ({"average": "makro"}, "unknown average 'makro'; did you mean 'macro'?", "average"),
        ({"average": "macro", "positive": 2}, "positive is the one class of 'average: binary'", "positive"),
        ({"zero_division": 0.5}, "zero_division must be 0, 1 or nan, not 0.5", "zero_division"),
        ({"average": "micro", "zero_division": "warn"}, "zero_division must be 0, 1 or nan", "zero_division"),
    ],
)
def test_wrong_options_of_averages_are_refused(options: dict[str, Any], message: str, path: str) -> None:
    for kind in (*KINDS, "fbeta"):
        with pytest.raises(ConfigError) as caught:
            create_metric({"class": kind, **options})
        assert message in str(caught.value)
        assert caught.value.path == (path,)


def test_zero_division_may_be_the_word_nan() -> None:
    metric = create_metric({"class": "f1", "zero_division": "nan"})
    metric.update(torch.zeros(3), None, torch.zeros(3, dtype=torch.long))
    assert math.isnan(metric.compute()["f1"])
