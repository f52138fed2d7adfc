"""Which metrics suit a task, what they read, and what is said of others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sklearn import metrics
from torch import nn

from emloop_mtl.errors import ConfigError
from emloop_mtl.tasks.scorer import Scorer
from emloop_mtl.tasks.task_network import TaskNetwork

from .digit_task import make


@pytest.mark.parametrize(
    "options",
    [
        {"loss": "mse", "output": "softmax"},
        {"loss": "soft_margin_loss", "output": "sigmoid"},
        {"loss": "bce"},
        {"loss": None},
        {"loss": lambda outputs, label: outputs["logits"].mean()},
    ],
)
def test_a_number_of_classes_serves_metrics_where_predictions_are_classes(options: dict[str, Any]) -> None:
    metric = {"class": "f1", "average": "per_class"}
    scorer = make(**options, num_classes=3, metrics=[metric]).scorer
    assert scorer is not None
    assert len(scorer.names) == 3


def test_eval_outputs_are_what_the_metrics_read() -> None:
    assert make().eval_outputs == frozenset()
    assert make(metrics=["accuracy"]).eval_outputs == {"digit/pred"}
    assert make(metrics=["accuracy"], require_pred_for_eval=False).eval_outputs == {"digit/prob"}
    assert make(metrics=["accuracy", "roc_auc"]).eval_outputs == {"digit/prob", "digit/pred"}
    assert make(metrics=["f1_macro"], require_prob_for_eval=False).eval_outputs == {"digit/pred"}


@pytest.mark.parametrize("metric", ["accuracy", "f1", "f1_macro", "f1_micro", "f1_weighted"])
def test_metrics_of_classes_are_refused_where_values_are_predicted(metric: str) -> None:
    with pytest.raises(
        ConfigError, match=f"metric '{metric}' compares classes, but the task predicts values"
    ) as caught:
        make("mse_loss", metrics=["mean_squared_error", metric])
    assert caught.value.path == ("metrics", 1)
    with pytest.raises(ConfigError) as caught:
        make("mse_loss", scorer=Scorer([metric]))
    assert caught.value.path == ("scorer", "metrics", 0)
    make("mse_loss", metrics=[metric], output=lambda outputs: outputs["logits"] > 0)
    make("mse_loss", metrics=[metric], require_pred_for_eval=False)


@pytest.mark.parametrize("metric", ["pearson_correlation", "spearman_correlation", "pearson_spearman"])
def test_metrics_of_numbers_are_refused_where_classes_are_predicted(metric: str) -> None:
    text = f"task 'digit': metric '{metric}' compares one number per row, but the task predicts classes"
    for loss in ("cross_entropy", "nll_loss", "multi_margin_loss"):
        with pytest.raises(ConfigError, match=text) as caught:
            make(loss, metrics=["accuracy", metric])
        assert caught.value.path == ("metrics", 1)
    make("cross_entropy", metrics=[metric], output=lambda outputs: outputs["logits"][:, 0])
    make("mse_loss", metrics=[metric])
    make("cross_entropy", metrics=["mean_squared_error"])  # of labels that are probabilities


def test_r2_is_refused_where_classes_are_predicted() -> None:
    for loss in ("cross_entropy", "nll_loss", "multi_margin_loss"):
        with pytest.raises(ConfigError, match="'r2' compares values, but the task predicts classes") as caught:
            make(loss, metrics=["accuracy", "r2"])
        assert caught.value.path == ("metrics", 1)
    for loss in ("mse_loss", "binary_cross_entropy_with_logits"):
        make(loss, metrics=["r2", "mean_absolute_error"])


@pytest.mark.parametrize("metric", ["log_loss", "brier_score", "calibration_error"])
def test_metrics_of_probabilities_are_refused_where_there_are_none(metric: str) -> None:
    for loss in ("mse_loss", "poisson_nll_loss", "multi_margin_loss"):
        with pytest.raises(ConfigError, match=f"'{metric}' needs probabilities, but the task gives other") as caught:
            make(loss, metrics=[metric])
        assert caught.value.path == ("metrics", 0)
    make("multi_margin_loss", metrics=[metric], output="softmax")
    for loss in ("cross_entropy", "nll_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits"):
        make(loss, metrics=[metric])


def test_averages_over_the_labels_of_a_row_are_refused_where_there_is_one() -> None:
    for loss, what in (("cross_entropy", "classes"), ("mse_loss", "values")):
        with pytest.raises(ConfigError, match=f"metric 'f1_samples' .*but the task predicts {what}"):
            make(loss, metrics=["f1_samples"])
    make("binary_cross_entropy_with_logits", metrics=["f1_samples"])


@pytest.mark.parametrize("read", [{}, {"require_pred_for_eval": False}, {"require_prob_for_eval": False}])
def test_several_labels_per_row_are_scored_as_sklearn_scores_multilabel_ones(read: dict[str, bool]) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, label = torch.randn(2, 50, 4, generator=generator)
    label = (label > 0.7).float()
    names = ["f1_macro", "f1_micro", "recall_weighted", "precision_samples", "exact_match", "hamming_loss"]
    task = make("binary_cross_entropy_with_logits", metrics=[*names, {"class": "f1", "average": "per_class"}], **read)
    assert task.scorer is not None
    scorer = task.scorer.fresh(task.num_classes)
    prob = task.probabilities({"logits": logits})
    pred = task.predictions(prob)
    for rows in torch.arange(50).split(16):
        read_prob = prob[rows] if "digit/prob" in task.eval_outputs else None
        read_pred = pred[rows] if "digit/pred" in task.eval_outputs else None
        scorer.update(label[rows], read_prob, read_pred)
    golds, preds = label.numpy(), (logits > 0).long().numpy()
    each = metrics.f1_score(golds, preds, average=None)
    expected = {
        "f1_macro": metrics.f1_score(golds, preds, average="macro"),
        "f1_micro": metrics.f1_score(golds, preds, average="micro"),
        "recall_weighted": metrics.recall_score(golds, preds, average="weighted"),
        "precision_samples": metrics.precision_score(golds, preds, average="samples", zero_division=0),
        "exact_match": metrics.accuracy_score(golds, preds),
        "hamming_loss": metrics.hamming_loss(golds, preds),
        **{f"f1_of_{number}": score for number, score in enumerate(each.tolist())},
    }
    assert scorer.compute() == pytest.approx(expected, rel=1e-12)  # quotients of whole numbers


def test_a_metric_of_a_class_that_there_is_not_is_refused() -> None:
    text = "task 'digit': metric 'f1' looks for class 3, but there are 3 classes, counted from 0"
    metrics = ["accuracy", {"class": "f1", "positive": 3}]
    with pytest.raises(ConfigError, match=text) as caught:
        make("cross_entropy", metrics=metrics, num_classes=3)
    assert caught.value.path == ("metrics", 1, "positive")
    make("cross_entropy", metrics=metrics, num_classes=4)
    task = make("cross_entropy", metrics=metrics)
    with pytest.raises(ConfigError, match=text) as caught:
        TaskNetwork([task], {task.flow[-1].module: nn.Linear(2, 3)})
    assert caught.value.path == ("digit", "metrics", 1, "positive")
