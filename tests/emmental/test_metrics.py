"""Every metric of Emmental 0.1.1, on the data and with the numbers of ``metrics.json``: at once and batch by batch."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics as sklearn_metrics

from emloop_mtl.errors import ConfigError, DataError
from emloop_mtl.tasks.action import Action
from emloop_mtl.tasks.scorer import Scorer
from emloop_mtl.tasks.task import Task

DIFFERENCES = {
    r"(accuracy_f1|precision|f1): golds as a column \[n,1\]": (
        "A column of class numbers holds these classes; Emmental takes it for probabilities of a single class, so that "
        "every label is 0. Its roc_auc alone flattens the column, as here."
    ),
    r"(fbeta|matthews_correlation): preds None": (
        "Without predictions the most probable class is predicted, as for the accuracy; Emmental takes every "
        "comparison with None for false, or fails."
    ),
    r".*: Scorer.score called with keyword arguments.*": (
        "Arguments by name are what they are called; Emmental hands probabilities over as predictions and the other "
        "way round."
    ),
    r"pearson_correlation: float32": (
        "Correlations are computed in float64 whatever the data's type; Emmental leaves the type to SciPy, which stays "
        "in float32."
    ),
    r"pearson_spearman: float32": "The same; Emmental fails, since it takes no mean of a float32 and a float64.",
    r"pearson_correlation: one sample": "A number that is undefined is nan, as for constant data; Emmental fails.",
    r"spearman_correlation: class golds against two-column probs": (
        "A score is one number; Emmental reports a matrix of the correlations of three columns. Its other correlations "
        "refuse such data, as here."
    ),
}
"""Name of the cases -> why the number is another here."""

EXACT = 1e-9  # relative; all is float64, and Emmental's own order of additions differs by a few units in the last place
FLOAT32 = 1e-6  # relative; how far a correlation of a dozen rows computed in float32 is from the exact one

OPTIONS = {"pos_label": "positive", "beta": "beta", "topk": "topk"}
"""Keyword argument of Emmental's metric functions -> the option here."""

FILE = json.loads((Path(__file__).parent / "metrics.json").read_text())


def name_of(case: dict[str, Any]) -> str:
    return f"{case['metric']}: {case['note']}"


def all_cases() -> list[dict[str, Any]]:
    """Return the cases, and the one that failed without data, on the data of the same note."""
    (failure,) = FILE["failures"]
    (data,) = (case for case in FILE["cases"] if name_of(case) == "pearson_correlation: float32")
    return [*FILE["cases"], {**{key: value for key, value in data.items() if key != "out"}, **failure}]


CASES = all_cases()


def decoded(values: Any) -> Any:
    return float(values) if isinstance(values, str) else values


def array(column: dict[str, Any] | None) -> Any:
    if column is None:
        return None
    return np.array(column["values"], dtype=column["dtype"]).reshape(column["shape"])


def scorer_of(case: dict[str, Any]) -> Scorer:
    options = {OPTIONS[name]: value for name, value in case["kwargs"].items()}
    return Scorer([{"class": case["metric"], **options} if options else case["metric"]])


def scored_at_once(case: dict[str, Any]) -> dict[str, float]:
    golds, probs, preds = (array(case[kind]) for kind in ("golds", "probs", "preds"))
    if case["via"] == "scorer_lists":
        golds, probs, preds = list(golds), list(probs), list(preds)
    if case["via"] == "scorer_keywords":
        return scorer_of(case).score(golds=golds, probs=probs, preds=preds)
    return scorer_of(case).score(golds, probs, preds)


def scored_in_batches(case: dict[str, Any], batches: int) -> dict[str, float]:
    scorer = scorer_of(case).fresh(num_classes=5)  # no case has more
    columns = [
        None if case[kind] is None else torch.from_numpy(array(case[kind])) for kind in ("golds", "probs", "preds")
    ]
    parts = [[None] * batches if column is None else column.tensor_split(batches) for column in columns]
    for label, prob, pred in zip(*parts, strict=True):
        scorer.update(label, prob, pred)
    return scorer.compute()


def all_ways(case: dict[str, Any]) -> Iterator[dict[str, float]]:
    yield scored_at_once(case)
    for batches in (1, 2, 3):
        yield scored_in_batches(case, batches)


def difference(case: dict[str, Any]) -> str | None:
    found = [pattern for pattern in DIFFERENCES if re.fullmatch(pattern, name_of(case))]
    return found[0] if found else None


SAME = [case for case in CASES if difference(case) is None]
OTHER = [case for case in CASES if difference(case) is not None]


@pytest.mark.parametrize("case", [case for case in SAME if "out" in case], ids=name_of)
def test_the_numbers_are_emmentals(case: dict[str, Any]) -> None:
    expected = {name: decoded(value) for name, value in case["out"].items()}
    for found in all_ways(case):
        assert found == pytest.approx(expected, rel=EXACT, abs=0, nan_ok=True)


@pytest.mark.parametrize("case", [case for case in SAME if "error" in case], ids=name_of)
def test_what_emmental_cannot_score_is_refused(case: dict[str, Any]) -> None:
    with pytest.raises((ConfigError, DataError)):
        scored_at_once(case)
    for batches in (1, 2, 3):
        with pytest.raises((ConfigError, DataError)):
            scored_in_batches(case, batches)


def most_probable(case: dict[str, Any]) -> Any:
    return array(case["preds"]) if case["preds"] is not None else array(case["probs"]).argmax(1)


def of_classes(case: dict[str, Any]) -> float:
    """Return what sklearn says of flat labels and of the predicted or most probable classes."""
    golds, preds = array(case["golds"]).reshape(-1), most_probable(case)
    score: dict[str, Callable[[], float]] = {
        "accuracy_f1": lambda: (
            (sklearn_metrics.accuracy_score(golds, preds) + sklearn_metrics.f1_score(golds, preds)) / 2
        ),
        "precision": lambda: sklearn_metrics.precision_score(golds, preds),
        "f1": lambda: sklearn_metrics.f1_score(golds, preds),
        "fbeta": lambda: sklearn_metrics.fbeta_score(golds, preds, beta=1),
        "matthews_correlation": lambda: sklearn_metrics.matthews_corrcoef(golds, preds),
        "roc_auc": lambda: sklearn_metrics.roc_auc_score(golds, array(case["probs"])[:, 1]),
    }
    return float(score[case["metric"]]())


def of_numbers(case: dict[str, Any]) -> float:
    """Return what SciPy says of the data in float64."""
    golds, probs = array(case["golds"]).astype(float), array(case["probs"]).astype(float)
    linear = float(stats.pearsonr(golds, probs).statistic)
    return (linear + float(stats.spearmanr(golds, probs).statistic)) / 2 if "spearman" in case["metric"] else linear


OURS: dict[str, Callable[[dict[str, Any]], float | None]] = dict(
    zip(
        DIFFERENCES,
        [of_classes, of_classes, of_classes, of_numbers, of_numbers, lambda case: math.nan, lambda case: None],
        strict=True,
    )
)
"""Name of the cases -> what the rule here gives; None for data that is refused."""


@pytest.mark.parametrize("case", OTHER, ids=name_of)
def test_differences_are_as_their_reason_says(case: dict[str, Any]) -> None:
    expected = OURS[difference(case) or ""](case)
    if expected is None:
        with pytest.raises(DataError, match="do not fit what is predicted"):
            scored_at_once(case)
        assert np.shape(next(iter(case["out"].values()))) == (3, 3)
        return
    for found in all_ways(case):
        (number,) = found.values()
        assert number == pytest.approx(expected, rel=EXACT, abs=0, nan_ok=True)
        if "out" in case:
            assert list(found) == list(case["out"])
            assert number != pytest.approx(decoded(case["out"][next(iter(found))]), rel=EXACT, abs=0, nan_ok=True)
        if "float32" in case["note"] and "out" in case:
            assert number == pytest.approx(case["out"][next(iter(found))], rel=FLOAT32)


def test_every_difference_and_every_metric_occurs() -> None:
    assert {difference(case) for case in OTHER} == set(DIFFERENCES)
    assert {case["metric"].partition("@")[0] for case in SAME if "out" in case} == {
        *(
            "accuracy",
            "accuracy_f1",
            "precision",
            "recall",
            "f1",
            "fbeta",
            "matthews_correlation",
            "mean_squared_error",
        ),
        *("pearson_correlation", "spearman_correlation", "pearson_spearman", "roc_auc"),
    }
    assert len(SAME) + len(OTHER) == len(FILE["cases"]) + len(FILE["failures"])


# ---------------------------------------------------------------------------- what Emmental's code says without numbers


def test_of_equally_probable_classes_the_first_counts() -> None:
    """As for the prediction itself; Emmental's ``accuracy@K`` begins with the last, its ``accuracy`` with the first."""
    golds, probs = np.array([0, 1, 2]), np.full((3, 3), 1 / 3)
    theirs = np.mean(
        [gold in order[-2:] for gold, order in zip(golds, probs.argsort(axis=1, kind="stable"), strict=True)]
    )
    assert Scorer(["accuracy@2"]).score(golds[:1], probs[:1]) == {"accuracy@2": 1.0}
    assert Scorer(["accuracy@2"]).score(golds[2:], probs[2:]) == {"accuracy@2": 0.0}
    assert theirs == 2 / 3
    assert 0 not in probs.argsort(axis=1, kind="stable")[0][-2:]


def task_of_entries(metrics: list[str]) -> Task:
    return Task("tags", flow=[Action("logits", "head", "x")], label="y", loss="bce_with_logits", metrics=metrics)


def test_entries_of_0_or_1_are_predicted_by_the_side_of_one_half() -> None:
    """Emmental predicts the greatest entry of a row alone, which for a single one is always class 0."""
    golds = torch.tensor([[1, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1]])
    probs = torch.tensor([[0.9, 0.8, 0.1], [0.6, 0.3, 0.7], [0.2, 0.1, 0.3], [0.8, 0.6, 0.7]])
    task = task_of_entries(["accuracy", "roc_auc"])
    for columns in (3, 1):
        label, prob = golds[:, :columns], probs[:, :columns]
        pred = task.predictions(prob)
        assert torch.equal(pred, (prob > 0.5).long())
        scores = Scorer(["accuracy", "roc_auc"]).score(label, prob, pred)
        assert scores["accuracy"] == (label == pred).double().mean().item()
        assert scores["roc_auc"] == pytest.approx(sklearn_metrics.roc_auc_score(label, prob), rel=EXACT)
        assert scores["accuracy"] != (label.argmax(1) == prob.argmax(1)).double().mean().item()
    assert set(probs[:, :1].argmax(1).tolist()) == {0}
    one_hot = sklearn_metrics.roc_auc_score(np.eye(3)[golds.argmax(1)], probs)
    assert abs(one_hot - sklearn_metrics.roc_auc_score(golds, probs)) > 1e-3  # no matter of rounding
