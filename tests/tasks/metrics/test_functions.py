"""Metrics that are functions: scikit-learn's by their path, and one's own, with options."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics

from emloop_mtl.errors import ConfigError, DataError
from emloop_mtl.tasks.metrics import Recall, create_metric
from emloop_mtl.tasks.scorer import Scorer

from .splits import at_once, quietly, streamed

GENERATOR = torch.Generator().manual_seed(0)
LABEL = torch.randint(3, (40,), generator=GENERATOR)
PROB = torch.rand(40, 3, generator=GENERATOR, dtype=torch.float64).softmax(1)
PRED = PROB.argmax(1)
OWN = torch.randint(2, (40, 3), generator=GENERATOR)
GOLDS, PROBS, PREDS, OWNS = (each.numpy() for each in (LABEL, PROB, PRED, OWN))
SIZES = [11, 0, 19, 10]


def costs(golds: Any, preds: Any, weight: float = 1.0) -> float:
    return float(weight * (golds != preds).sum())


def surprise(golds: Any, probs: Any, base: float = math.e) -> float:
    return float(-np.log(probs[range(len(golds)), golds]).mean() / math.log(base))


def everything(golds: Any, probs: Any, preds: Any, limit: float) -> dict[str, float]:
    return {"sure": float((probs.max(1) > limit).mean()), "right": float((golds == preds).mean())}


def strict(golds: Any, probs: Any, preds: Any, *, limit: float) -> float:
    return limit


def recall_of(positive: int) -> Recall:
    return Recall(f"recall_of_{positive}", positive)


@pytest.mark.parametrize(
    ("metric", "options", "expected"),
    [
        ("matthews_corrcoef", {}, lambda s: s(GOLDS, PREDS)),
        ("cohen_kappa_score", {"weights": "quadratic"}, lambda s: s(GOLDS, PREDS, weights="quadratic")),
        ("f1_score", {"average": "macro"}, lambda s: s(GOLDS, PREDS, average="macro")),
        ("fbeta_score", {"beta": 2, "average": "micro"}, lambda s: s(GOLDS, PREDS, beta=2, average="micro")),
        ("jaccard_score", {"average": "weighted"}, lambda s: s(GOLDS, PREDS, average="weighted")),
        ("log_loss", {}, lambda s: s(GOLDS, PROBS)),
        ("roc_auc_score", {"multi_class": "ovo"}, lambda s: s(GOLDS, PROBS, multi_class="ovo")),
        ("top_k_accuracy_score", {"k": 2}, lambda s: s(GOLDS, PROBS, k=2)),
        ("adjusted_rand_score", {}, lambda s: s(GOLDS, PREDS)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_metrics_of_sklearn_by_their_path(metric: str, options: dict[str, Any], expected: Any) -> None:
    function = getattr(sklearn_metrics, metric)
    value = {metric: expected(function)}
    for kind in (f"sklearn.metrics.{metric}", function):
        made = create_metric({"class": kind, **options} if options else kind)
        assert streamed(made, SIZES, LABEL, PROB, PRED) == value
    named = create_metric({"class": function, "name": "mine", **options})
    assert list(at_once(named, LABEL, PROB, PRED)) == ["mine"]


def test_a_third_argument_is_an_option_or_the_predictions() -> None:
    def optional(golds: Any, probs: Any, guesses: Any = None) -> float:
        return float((golds == guesses).mean())

    def weighed(golds: Any, probs: Any, weight: float = 2.0) -> float:
        return weight

    found = Scorer([optional, weighed, surprise]).score(LABEL, PROB, PRED)
    expected = {"optional": (GOLDS == PREDS).mean(), "weighed": 2.0, "surprise": surprise(GOLDS, PROBS)}
    assert found == expected


def test_functions_with_some_arguments_filled_in_keep_their_names() -> None:
    half, surprised = partial(sklearn_metrics.fbeta_score, beta=0.5, average="macro"), partial(surprise, base=2)
    expected = {"fbeta_score": half(GOLDS, PREDS), "surprise": surprised(GOLDS, PROBS)}
    assert Scorer([half, surprised]).score(LABEL, PROB, PRED) == expected


def test_metrics_of_values_by_their_path() -> None:
    label, prob = torch.rand(2, 40, dtype=torch.float64)
    for name in ("median_absolute_error", "max_error", "explained_variance_score"):
        expected = getattr(sklearn_metrics, name)(label.numpy(), prob.numpy())
        found = streamed(create_metric(f"sklearn.metrics.{name}"), SIZES, label[:, None], prob, prob)
        assert found == {name: expected}


def test_of_two_classes_sklearn_gets_the_probability_of_the_second() -> None:
    label, prob = (LABEL > 0).long(), torch.stack([PROB[:, 0], 1 - PROB[:, 0]], 1)
    for name in ("average_precision_score", "brier_score_loss", "roc_auc_score", "d2_brier_score"):
        function = getattr(sklearn_metrics, name, None)
        if function is None:  # of a later version
            continue
        expected = {name: function(label.numpy(), prob[:, 1].numpy())}
        for given in (prob, prob[:, 1], prob[:, 1:]):
            assert at_once(create_metric(f"sklearn.metrics.{name}"), label, given, None) == expected
        assert at_once(create_metric(f"sklearn.metrics.{name}"), torch.eye(2)[label], prob, None) == expected


def test_labels_of_their_own_stay_in_their_columns() -> None:
    pred = (PROB > 0.3).long()
    for known in (True, None):
        for name, options in (("f1_score", {"average": "samples"}), ("jaccard_score", {"average": "macro"})):
            expected = quietly(getattr(sklearn_metrics, name), OWNS, pred.numpy(), **options)
            metric = create_metric({"class": f"sklearn.metrics.{name}", **options})
            metric.has_label_sets = known
            assert streamed(metric, SIZES, OWN, PROB, pred)[name] == expected
        for name in ("coverage_error", "label_ranking_loss", "average_precision_score"):
            metric = create_metric(f"sklearn.metrics.{name}")
            metric.has_label_sets = known
            expected = getattr(sklearn_metrics, name)(OWNS, PROBS)
            assert streamed(metric, SIZES, OWN, PROB, pred)[name] == expected


def test_dense_classes_come_entry_by_entry_without_ignored_ones() -> None:
    label, prob = LABEL.view(8, 5).clone(), PROB.view(8, 5, 3).movedim(2, 1)
    label[0, :3] = 255
    kept = label.flatten() != 255
    for name, arrays in (("matthews_corrcoef", PREDS[kept]), ("log_loss", PROBS[kept])):
        metric = create_metric(f"sklearn.metrics.{name}")
        metric.ignored_label, metric.has_label_sets = 255, False
        expected = getattr(sklearn_metrics, name)(GOLDS[kept], arrays)
        assert at_once(metric, label, prob, prob.argmax(1))[name] == expected
        nothing = at_once(metric, torch.full_like(label, 255), prob, prob.argmax(1))
        assert math.isnan(nothing[name])


def test_functions_of_ones_own_take_options_and_what_their_arguments_are_called() -> None:
    scorer = Scorer(
        [
            costs,
            {"class": costs, "weight": 3, "name": "three"},
            {"class": surprise, "base": 2},
            {"class": everything, "limit": 0.4},
            {"class": recall_of, "positive": 2},
        ]
    )
    wrong = int((GOLDS != PREDS).sum())
    assert scorer.score(LABEL, PROB, PRED) == {
        "costs": wrong,
        "three": 3 * wrong,
        "surprise": surprise(GOLDS, PROBS, 2),
        **everything(GOLDS, PROBS, PREDS, 0.4),
        "recall_of_2": sklearn_metrics.recall_score(GOLDS == 2, PREDS == 2),
    }
    assert all(map(math.isnan, scorer.score([], [], []).values()))


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("sklearn.metrics.f1_scor", "unknown metric 'sklearn.metrics.f1_scor'; did you mean 'f1_score'?"),
        ("sklearn.metrics.confusion", "did you mean 'confusion_matrix'?"),
        ("os.getcwd", "unknown metric 'os.getcwd'"),
        (
            {"class": "sklearn.metrics.f1_score", "averag": "macro"},
            "unknown argument 'averag'; did you mean 'average'?",
        ),
        ({"class": sklearn_metrics.fbeta_score}, "missing a required argument: 'beta'"),
        ({"class": sklearn_metrics.f1_score, "average": "makro"}, "The 'average' parameter of f1_score must be"),
        (
            "sklearn.metrics.fbeta_score",
            "metric 'fbeta_score': missing a required argument: 'beta'; options",
        ),
        (lambda golds, preds, *, limit: 1, "missing a required argument: 'limit'; options stand beside its 'class'"),
        ({"class": costs, "wait": 2}, "metric 'costs': unknown argument 'wait'; did you mean 'weight'?"),
        ({"class": strict}, "metric 'strict': missing a required argument: 'limit'"),
        ({"class": recall_of, "positiv": 2}, "unknown argument 'positiv'; did you mean 'positive'?"),
        (strict, "must take (golds, probs, preds), (golds, probs, preds, uids), (golds, preds) or (golds, probs)"),
    ],
)
def test_wrong_functions_and_options_are_refused(metric: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        create_metric(metric)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_sklearn_refuses_names_the_metric() -> None:
    metric = create_metric("sklearn.metrics.f1_score")
    with pytest.raises(DataError, match="metric 'f1_score': Target is multiclass but average='binary'"):
        at_once(metric, LABEL, None, PRED)
    with pytest.raises(ConfigError, match="must return a number or a mapping of names to numbers"):
        at_once(create_metric("sklearn.metrics.confusion_matrix"), LABEL, None, PRED)
    with pytest.raises(ConfigError, match="metric 'log_loss' needs 'prob', and there is none"):
        at_once(create_metric("sklearn.metrics.log_loss"), LABEL, None, PRED)


def test_functions_of_rows_do_not_wait_for_the_device(no_waiting: Any) -> None:
    for metric in ("sklearn.metrics.log_loss", "sklearn.metrics.accuracy_score", everything):
        made = create_metric({"class": metric, "limit": 1.0} if metric is everything else metric)
        with no_waiting():
            made.update(LABEL, PROB, PRED)
        assert not any(map(math.isnan, made.compute().values()))
