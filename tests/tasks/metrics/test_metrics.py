from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics
from torch import Tensor

from emloop_mtl.errors import ConfigError, DataError
from emloop_mtl.tasks.metrics import METRICS, Metric, create_metric
from emloop_mtl.tasks.scorer import Scorer

from .splits import quietly

ALL = [*sorted(METRICS), "accuracy@2"]
OF_NUMBERS = {
    *("mean_absolute_error", "mean_squared_error", "r2"),
    *("pearson_correlation", "pearson_spearman", "spearman_correlation"),
}
OF_SETS = {name for name in METRICS if name.endswith("_samples")}
KEEPING = {"average_precision", "pearson_spearman", "roc_auc", "spearman_correlation"}

TOLERANCE = 1e-12  # sums of less than 100 float64 numbers round to about 1e-14


def of_class_1(score: Callable[..., float], **options: Any) -> Callable[..., float]:
    """Return one of sklearn's scores as of class 1 against the rest, 0 where it is undefined."""
    return lambda gold, prob, pred: score(gold, pred, labels=[1], average="macro", zero_division=0.0, **options)


def averaged(kind: str, average: str) -> Callable[..., float]:
    """Return one of sklearn's averages over classes."""
    score = getattr(sklearn_metrics, f"{kind}_score")
    return lambda gold, prob, pred: score(gold, pred, average=average, zero_division=0.0)


def top(topk: int) -> Callable[..., float]:
    """Return a slow accuracy@K; sklearn's own does not say how it breaks ties."""

    def score(gold: Any, prob: Any, pred: Any) -> float:
        ranked = [sorted(range(len(row)), key=lambda number: (-row[number], number)) for row in prob]
        return float(np.mean([label in numbers[:topk] for label, numbers in zip(gold, ranked, strict=True)]))

    return score


EXPECTED: dict[str, Callable[..., float]] = {
    "accuracy": lambda gold, prob, pred: sklearn_metrics.accuracy_score(gold, pred),
    "accuracy@2": top(2),
    "accuracy@3": top(3),
    "accuracy@9": top(9),
    "precision": of_class_1(sklearn_metrics.precision_score),
    "recall": of_class_1(sklearn_metrics.recall_score),
    "fbeta": of_class_1(sklearn_metrics.fbeta_score, beta=1),
    "fbeta 2": of_class_1(sklearn_metrics.fbeta_score, beta=2),
    "fbeta 0.5": of_class_1(sklearn_metrics.fbeta_score, beta=0.5),
    "accuracy_f1": lambda gold, prob, pred: (
        (EXPECTED["accuracy"](gold, prob, pred) + EXPECTED["f1"](gold, prob, pred)) / 2
    ),
    "matthews_correlation": lambda gold, prob, pred: sklearn_metrics.matthews_corrcoef(gold, pred),
    "f1": lambda gold, prob, pred: sklearn_metrics.f1_score(gold, pred, labels=[1], average="macro", zero_division=0.0),
    **{f"f1_{average}": averaged("f1", average) for average in ("macro", "micro", "weighted")},
    "balanced_accuracy": lambda gold, prob, pred: quietly(sklearn_metrics.balanced_accuracy_score, gold, pred),
    "hamming_loss": lambda gold, prob, pred: sklearn_metrics.hamming_loss(gold, pred),
    "exact_match": lambda gold, prob, pred: sklearn_metrics.accuracy_score(gold, pred),
}


def rows_for(name: str, number: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Labels and probabilities, or values, that a metric can score; every class is a label."""
    generator = torch.Generator().manual_seed(seed)
    if name in OF_NUMBERS:
        return torch.rand(number, generator=generator), torch.rand(number, generator=generator)
    prob = torch.rand(number, 3, generator=generator)
    label = torch.arange(number) % 3
    return ((torch.eye(3)[label]).long(), prob) if name in OF_SETS else (label, prob / prob.sum(1, keepdim=True))


def of_kind(name: str) -> Metric:
    """Make a metric as a task makes it whose labels it can score."""
    metric = create_metric(name)
    metric.has_label_sets = name in OF_SETS
    return metric


@st.composite
def split_rows(draw: st.DrawFn) -> tuple[int, list[int], Tensor, Tensor]:
    """Classes, sizes of the batches (some empty), labels [n], probabilities [n, classes] with ties."""
    classes = draw(st.integers(2, 6))
    sizes = draw(st.lists(st.integers(0, 12), min_size=1, max_size=6).filter(any))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    label = torch.randint(classes, (sum(sizes),), generator=generator)
    prob = torch.randint(1, 5, (sum(sizes), classes), generator=generator).double()
    return classes, sizes, label, prob / prob.sum(1, keepdim=True)


def collect(metric: Metric, sizes: list[int], label: Tensor, prob: Tensor | None, pred: Tensor | None) -> float:
    begin = 0
    for size in sizes:
        rows = slice(begin, begin + size)
        metric.update(label[rows], None if prob is None else prob[rows], None if pred is None else pred[rows])
        begin += size
    return metric.compute()[metric.name]


def make(name: str) -> Metric:
    """Make the metric of a key of ``EXPECTED``."""
    kind, _, beta = name.partition(" ")
    return create_metric({"class": kind, "beta": float(beta)} if beta else name)


@pytest.mark.parametrize("name", sorted(EXPECTED))
@settings(max_examples=25, deadline=None)
@given(rows=split_rows(), form=st.sampled_from(["both", "prob", "pred"]), soft=st.booleans())
def test_class_metrics_equal_sklearn_for_any_split(name: str, rows: Any, form: str, soft: bool) -> None:
    classes, sizes, label, prob = rows
    form = "both" if "@" in name else form
    pred = prob.argmax(1)
    metric = make(name)
    metric.num_classes = classes if form == "pred" else None
    given_label = torch.nn.functional.one_hot(label, classes) * 0.5 + 0.5 / classes if soft else label
    found = collect(metric, sizes, given_label, None if form == "pred" else prob, None if form == "prob" else pred)
    expected = EXPECTED[name](label.numpy(), prob.numpy(), pred.numpy())
    assert found == pytest.approx(expected, rel=TOLERANCE, abs=TOLERANCE)


@pytest.mark.parametrize("name", sorted(name for name in EXPECTED if "@" not in name))
@settings(max_examples=15, deadline=None)
@given(rows=split_rows(), column=st.booleans())
def test_single_probabilities_are_scored_for_any_split(name: str, rows: Any, column: bool) -> None:
    _, sizes, label, prob = rows
    label, prob = (label > 0).long(), prob[:, :1] * 1.5
    found = collect(make(name), sizes, label, prob if column else prob[:, 0], None)
    expected = EXPECTED[name](label.numpy(), None, (prob[:, 0] > 0.5).long().numpy())
    assert found == pytest.approx(expected, rel=TOLERANCE, abs=TOLERANCE)


@pytest.mark.parametrize("name", ["precision", "recall", "f1", "fbeta"])
@settings(max_examples=15, deadline=None)
@given(rows=split_rows(), positive=st.integers(0, 6))
def test_any_class_can_be_the_positive_one(name: str, rows: Any, positive: int) -> None:
    _, sizes, label, prob = rows
    found = collect(create_metric({"class": name, "positive": positive}), sizes, label, prob, None)
    relabelled = [(values == positive).long().numpy() for values in (label, prob.argmax(1))]
    expected = EXPECTED[name](relabelled[0], None, relabelled[1])
    assert found == pytest.approx(expected, rel=TOLERANCE, abs=TOLERANCE)


@pytest.mark.parametrize(("name", "expected"), [("accuracy", 2.0), ("accuracy@2", 3.0)])
def test_accuracy_without_normalizing_is_a_number_of_rows(name: str, expected: float) -> None:
    metric = create_metric({"class": name, "normalize": False})
    prob = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.7, 0.2], [0.2, 0.5, 0.3], [0.2, 0.5, 0.3]])
    metric.update(torch.tensor([0, 1, 2, 0]), prob, None)
    assert metric.compute() == {name: expected}


@settings(max_examples=40, deadline=None)
@given(rows=split_rows(), binary=st.booleans())
def test_roc_auc_equals_sklearn_for_any_split(rows: Any, binary: bool) -> None:
    classes, sizes, label, prob = rows
    if binary:
        label, prob = (label > 0).long(), prob[:, 0]
        one_class = bool(label.all()) or not label.any()
        expected = math.nan if one_class else sklearn_metrics.roc_auc_score(label.numpy(), prob.numpy())
    else:
        golds = np.eye(classes)[label.numpy()]
        one_class = bool(((golds.sum(0) == 0) | (golds.sum(0) == len(golds))).any())
        expected = math.nan if one_class else sklearn_metrics.roc_auc_score(golds, prob.numpy(), average="macro")
    found = collect(create_metric("roc_auc"), sizes, label, prob, None)
    assert found == pytest.approx(expected, abs=TOLERANCE, nan_ok=True)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=6).filter(any), st.integers(0, 3), st.integers(0, 2**31))
def test_mean_squared_error_equals_sklearn_for_any_split(sizes: list[int], columns: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    shape = (sum(sizes), columns) if columns else (sum(sizes),)
    label, prob = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    expected = sklearn_metrics.mean_squared_error(label.numpy(), prob.numpy())
    assert collect(create_metric("mean_squared_error"), sizes, label, prob, None) == pytest.approx(
        expected, abs=TOLERANCE
    )


def test_mean_squared_error_adds_float32_values_up_in_float64() -> None:
    """A float32 sum of 2**24 + 1 ones would stop at 2**24."""
    metric = create_metric("mean_squared_error")
    metric.update(torch.full((2,), 4096.0), torch.tensor([0.0, 4095.0]), None)
    assert metric.compute() == {"mean_squared_error": (2**24 + 1) / 2}


@pytest.mark.parametrize("name", ALL)
def test_no_rows_give_nan_under_the_names_that_are_reported(name: str) -> None:
    metric = of_kind(name)
    empty, score = metric.compute(), math.nan
    label, prob = rows_for(name, 3)
    metric.update(label[:0], prob[:0], None)
    assert repr(metric.compute()) == repr(empty) == repr(dict.fromkeys(metric.names, score))
    metric.update(label, prob, None)
    assert {name: math.isnan(score) for name, score in metric.compute().items()} == dict.fromkeys(empty, False)


@pytest.mark.parametrize("name", ALL)
def test_an_update_does_not_wait_for_the_device(name: str, no_waiting: Any) -> None:
    label, prob = rows_for(name, 6)
    pred = None if name in OF_NUMBERS else (prob > 0.5).long() if name in OF_SETS else prob.argmax(1)
    metric = of_kind(name)
    with no_waiting():
        for _ in range(3):
            metric.update(label, prob, pred)
    assert not any(math.isnan(score) for score in metric.compute().values())


@pytest.mark.parametrize("name", ALL)
def test_a_restored_metric_goes_on_exactly(name: str) -> None:
    label, prob = rows_for(name, 8)
    whole = collect(of_kind(name), [5, 3], label, prob, None)
    first = of_kind(name)
    first.update(label[:5], prob[:5], None)
    state = first.state_dict()
    first.update(label[5:], prob[5:], None)  # must not change what was saved
    second = of_kind(name)
    second.load_state_dict(state)
    second.update(label[5:], prob[5:], None)
    assert second.compute()[second.name] == whole
    second.reset()
    assert math.isnan(second.compute()[second.name])


@pytest.mark.parametrize("name", sorted({*ALL} - KEEPING))
def test_metrics_that_follow_from_sums_do_not_grow(name: str) -> None:
    label, prob = rows_for(name, 4)
    metric = of_kind(name)
    sizes = []
    for _ in range(3):
        metric.update(label, prob, None)
        sizes.append(sum(value.numel() for value in metric.state_dict().values() if isinstance(value, Tensor)))
    assert 0 < sizes[0] == sizes[1] == sizes[2]


def test_fresh_metrics_share_settings_but_no_rows() -> None:
    metric = create_metric("f1_macro")
    metric.num_classes = 4
    metric.update(torch.tensor([0]), None, torch.tensor([0]))
    fresh = metric.fresh()
    assert fresh.num_classes == 4
    assert math.isnan(fresh.compute()["f1_macro"])
    fresh.update(torch.tensor([1]), None, torch.tensor([0]))
    assert metric.compute() == {"f1_macro": 1.0}


# --------------------------------------------------------------------------------------------------------------- shapes


@pytest.mark.parametrize("name", ["accuracy", "accuracy_f1", "f1", "f1_macro", "precision", "matthews_correlation"])
def test_columns_probable_labels_and_dense_labels(name: str) -> None:
    label, pred = torch.tensor([0, 1, 1, 0]), torch.tensor([0, 1, 0, 0])
    prob = torch.nn.functional.one_hot(pred, 2).float()
    expected = EXPECTED[name](label.numpy(), None, pred.numpy())

    def score(label: Tensor, pred: Tensor) -> float:
        metric = create_metric(name)
        metric.update(label, prob, pred)
        return metric.compute()[metric.name]

    assert score(label[:, None], pred) == pytest.approx(expected, abs=TOLERANCE)
    assert score(label, pred[:, None]) == pytest.approx(expected, abs=TOLERANCE)
    assert score(torch.nn.functional.one_hot(label, 2) * 0.8, pred) == pytest.approx(expected, abs=TOLERANCE)
    assert score(label.reshape(2, 2), pred.reshape(2, 2)) == pytest.approx(expected, abs=TOLERANCE)
    with pytest.raises(
        DataError,
        match=rf"metric '{create_metric(name).name}': labels of shape \(3,\) do not fit what is predicted, \(4,\)",
    ):
        score(label[:3], pred)


@pytest.mark.parametrize(
    "name", ["accuracy", "accuracy_f1", "f1", "f1_macro", "f1_weighted", "recall", "matthews_correlation"]
)
def test_ignored_entries_of_dense_labels_do_not_count(name: str, no_waiting: Any) -> None:
    label = torch.tensor([[0, 255, 1], [2, 1, 255]])
    pred = torch.tensor([[0, 1, 2], [2, 1, 0]])
    metric = create_metric(name)
    metric.ignored_label = 255
    metric.num_classes = 3
    with no_waiting():
        metric.update(label, None, pred)
    kept = label != 255
    expected = EXPECTED[name](label[kept].numpy(), None, pred[kept].numpy())
    assert metric.compute()[metric.name] == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize("name", sorted(set(ALL) - OF_NUMBERS - OF_SETS))
def test_rows_of_nothing_but_ignored_entries_give_nan(name: str) -> None:
    metric = create_metric(name)
    metric.ignored_label = 255
    metric.update(torch.full((2, 3), 255), torch.rand(2, 4, 3), None)
    assert math.isnan(metric.compute()[metric.name])


def test_single_probabilities_predict_by_one_half() -> None:
    for name in ("accuracy", "f1_macro"):
        metric = create_metric(name)
        metric.update(torch.tensor([0, 1, 1]), torch.tensor([[0.4], [0.6], [0.7]]), None)
        assert metric.compute() == {name: 1.0}


def test_f1_is_0_where_it_is_undefined() -> None:
    metric = create_metric("f1")
    metric.update(torch.zeros(3), None, torch.zeros(3, dtype=torch.long))
    assert metric.compute() == {"f1": 0.0}


def test_f1_macro_needs_the_number_of_classes_beforehand() -> None:
    metric = create_metric("f1_macro")
    with pytest.raises(ConfigError, match="'f1_macro' needs the number of classes; set the task's num_classes"):
        metric.update(torch.tensor([0]), None, torch.tensor([0]))


def test_f1_macro_says_when_classes_lie_outside() -> None:
    metric = create_metric("f1_macro")
    metric.update(torch.tensor([0, 3, -1]), torch.rand(3, 2), None)
    with pytest.raises(DataError, match=r"2 labels or predictions are outside 0\.\.1; set the task's num_classes"):
        metric.compute()
    metric.reset()
    metric.update(torch.tensor([0]), torch.rand(1, 2), None)
    with pytest.raises(DataError, match="number of classes differs between batches"):
        metric.update(torch.tensor([0]), torch.rand(1, 3), None)


def test_predicted_values_are_no_classes() -> None:
    with pytest.raises(ConfigError, match=r"'accuracy' needs predicted classes, but the task predicts torch\.float32"):
        create_metric("accuracy").update(torch.tensor([0]), None, torch.tensor([0.5]))
    with pytest.raises(ConfigError, match="'accuracy' needs predictions or probabilities"):
        create_metric("accuracy").update(torch.tensor([0]), None, None)
    with pytest.raises(ConfigError, match="compares labels with 'prob'"):
        create_metric("mean_squared_error").update(torch.tensor([0.0]), None, None)


@pytest.mark.parametrize(
    ("label", "prob", "expected"),
    [
        ([0, 1, 0, 1], [[0.1], [0.9], [0.2], [0.3]], 1.0),  # columns are flattened
        ([[0], [1], [0], [1]], [0.1, 0.9, 0.2, 0.3], 1.0),
        ([[0.9, 0.1], [0.2, 0.8]], [0.1, 0.9], 1.0),  # the most probable class counts
        ([1, 1, 1], [0.1, 0.2, 0.3], math.nan),
        ([0, 1, 2], [0.1, 0.2, 0.3], math.nan),
        ([0, 1, 1], [[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.2, 0.6, 0.2]], math.nan),  # class 2 never occurs
    ],
)
def test_roc_auc_of_other_shapes(label: Any, prob: Any, expected: float) -> None:
    metric = create_metric("roc_auc")
    metric.update(torch.tensor(label), torch.tensor(prob), None)
    assert metric.compute()["roc_auc"] == pytest.approx(expected, abs=TOLERANCE, nan_ok=True)


def test_roc_auc_refuses_labels_without_a_column() -> None:
    metric = create_metric("roc_auc")
    metric.update(torch.tensor([0, 2]), torch.rand(2, 2), None)
    with pytest.raises(DataError, match=r"labels must be classes 0\.\.1, got 0 to 2"):
        metric.compute()
    metric.reset()
    metric.update(torch.tensor([0]), None, torch.tensor([0]))
    with pytest.raises(ConfigError, match="'roc_auc' needs 'prob'"):
        metric.compute()


def test_kept_rows_are_copies_and_fit_each_other() -> None:
    metric = create_metric("roc_auc")
    label, prob = torch.tensor([0, 1]), torch.tensor([0.2, 0.8])
    metric.update(label, prob, None)
    prob.fill_(0.5)
    assert metric.compute() == {"roc_auc": 1.0}
    with pytest.raises(DataError, match="rows of 'prob' have different shapes in different batches"):
        metric.update(label, torch.rand(2, 3), None)


@pytest.mark.parametrize(
    ("metric", "message"), [("f1_makro", "did you mean 'f1_macro'"), (3, "a metric is a name, a function or a Metric")]
)
def test_unknown_metrics_are_refused(metric: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_metric(metric)


def test_roc_auc_of_a_model_that_diverges_is_nan() -> None:
    golds, probs = [0, 1, 1], [0.1, float("inf"), float("nan")]
    assert math.isnan(Scorer(["roc_auc"]).score(golds, probs)["roc_auc"])


def test_roc_auc_of_several_labels_per_row_is_the_mean_over_the_columns() -> None:
    generator = np.random.default_rng(0)
    golds, probs = generator.integers(0, 2, (30, 4)), generator.random((30, 4))
    found = Scorer(["roc_auc"]).score(golds, probs)["roc_auc"]
    assert found == pytest.approx(
        sklearn_metrics.roc_auc_score(golds, probs, average="macro"), rel=1e-12
    )  # the order of the sum


KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "classes": lambda numbers: numbers % 3,
    "ones": lambda numbers: numbers % 2,
    "truths": lambda numbers: numbers % 2 == 1,
    "bytes": lambda numbers: (numbers % 3).to(torch.uint8),
    "negative": lambda numbers: numbers % 3 - 1,
    "values": lambda numbers: (numbers + 1) / (numbers.numel() + 2),
    "halves": lambda numbers: (numbers / max(1, numbers.numel())).bfloat16(),
    "nan": lambda numbers: torch.full(numbers.shape, math.nan),
}
SHAPES = [(4,), (4, 1), (4, 2), (4, 3), (4, 3, 2), (4, 1, 2), (4, 2, 3, 3), (1,), (0,), (0, 3), (5,)]


def test_rows_of_any_kind_are_scored_or_refused() -> None:
    """Whatever is given, there is a score, the same one after resuming, or an error of the package's own."""
    names = [*ALL, "sklearn.metrics.f1_score", "sklearn.metrics.log_loss", {"class": "f1", "average": "per_class"}]
    generator = random.Random(0)
    scored = 0

    def rows(*shapes: tuple[int, ...]) -> Tensor:
        shape = generator.choice(shapes)
        return generator.choice(list(KINDS.values()))(torch.arange(math.prod(shape)).view(shape))

    for _ in range(1500):
        label = rows(*SHAPES)
        probs, preds = (generator.choice([None, rows(label.shape, *SHAPES), rows(label.shape)]) for _ in range(2))
        metric = create_metric(generator.choice(names))
        metric.has_label_sets = generator.choice([None, True, False])
        metric.num_classes = generator.choice([None, 2, 3])
        metric.ignored_label = generator.choice([None, 2])
        try:
            metric.update(label, probs, preds)
            resumed = metric.fresh()
            resumed.load_state_dict(metric.state_dict())
            found = sum(quietly(metric.compute).values())
        except (ConfigError, DataError):
            continue
        scored += 1
        again = sum(quietly(resumed.compute).values())
        assert repr(again) == repr(found)  # nan too
    assert scored > 300  # a good part of all


@pytest.mark.parametrize("outside", [-1, 2, 3, 50])
def test_predictions_that_are_no_class_are_not_counted_as_another(outside: int) -> None:
    metric = create_metric("f1_macro")
    metric.num_classes = 2
    metric.update(torch.tensor([0, 1]), None, torch.tensor([0, outside]))
    with pytest.raises(DataError, match=r"1 labels or predictions are outside 0\.\.1"):
        metric.compute()
