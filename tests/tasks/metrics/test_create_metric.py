from __future__ import annotations

from typing import Any

import pytest
import torch

from emloop_mtl.errors import ConfigError
from emloop_mtl.tasks.metrics import METRICS, Metric, Recall, TopAccuracy, create_metric


@pytest.mark.parametrize(
    ("metric", "names"),
    [
        ("accuracy", ["accuracy"]),
        ("accuracy@1", ["accuracy"]),
        ("accuracy@12", ["accuracy@12"]),
        ("f1", ["f1"]),
        ("fbeta", ["f1"]),
        ({"class": "fbeta", "beta": 2}, ["f2"]),
        ({"class": "fbeta", "beta": 2.0}, ["f2"]),
        ({"class": "fbeta", "beta": 0.5}, ["f0.5"]),
        ("matthews_correlation", ["matthews_corrcoef"]),
        ({"class": "pearson_correlation", "return_pvalue": True}, ["pearson_correlation", "pearson_pvalue"]),
        ({"class": "spearman_correlation", "return_pvalue": True}, ["spearman_correlation", "spearman_pvalue"]),
        ({"class": "pearson_correlation", "return_pvalue": True, "name": "r"}, ["r", "r_pvalue"]),
        ({"class": "accuracy", "topk": 3}, ["accuracy@3"]),
        ({"class": "accuracy@3", "name": "top"}, ["top"]),
        ({"class": Recall, "positive": 2, "name": "recall_of_2"}, ["recall_of_2"]),
        (Recall, ["recall"]),
        (TopAccuracy(4), ["accuracy@4"]),
    ],
)
def test_what_metrics_report(metric: Any, names: list[str]) -> None:
    made = create_metric(metric)
    assert list(made.names) == list(made.compute()) == names


@pytest.mark.parametrize("name", sorted(METRICS))
def test_every_metric_can_be_called_otherwise(name: str) -> None:
    assert create_metric({"class": name, "name": "other"}).names == ("other",)


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("accuracy@x", "unknown metric 'accuracy@x'; after accuracy@ comes a whole number > 0"),
        ("accuracy@0", "after accuracy@ comes a whole number > 0"),
        ("acuracy@2", "unknown metric 'acuracy@2'; did you mean 'accuracy'?"),
        ("matthews", "did you mean 'matthews_correlation'?"),
        ({"class": "fbetta"}, "unknown metric 'fbetta'; did you mean 'fbeta'?"),
        ({"class": "fbeta", "betta": 2}, "metric 'fbeta': unknown argument 'betta'; did you mean 'beta'?"),
        ({"class": "accuracy@3", "topk": 2}, "unknown argument 'topk'"),
        ({"class": TopAccuracy}, "missing a required argument: 'topk'"),
        ({"beta": 2}, "a metric with options is a mapping with 'class'"),
        ({"class": "fbeta", "beta": 0}, "beta must be a finite number > 0, not 0"),
        ({"class": "fbeta", "beta": float("inf")}, "beta must be a finite number > 0"),
        ({"class": "fbeta", "beta": "2"}, "beta must be a finite number > 0, not '2'"),
        ({"class": "precision", "positive": -1}, "positive must be a class"),
        ({"class": "recall", "positive": 1.0}, "positive must be a class"),
        ({"class": "f1", "positive": True}, "positive must be a class"),
    ],
)
def test_wrong_names_and_options_are_refused(metric: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        create_metric(metric)
    assert message in str(caught.value)
    option = next((name for name in ("beta", "positive") if message.startswith(f"{name} must be")), None)
    assert caught.value.path == (() if option is None else (option,))


def test_a_metric_that_is_given_stays_as_it_was() -> None:
    given = Recall()
    given.update(torch.tensor([1]), None, torch.tensor([1]))
    made = create_metric(given)
    made.update(torch.tensor([1]), None, torch.tensor([0]))
    assert isinstance(made, Metric)
    assert given.compute() == {"recall": 1.0}
    assert made.compute() == {"recall": 0.0}
