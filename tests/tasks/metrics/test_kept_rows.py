"""What metrics keep that need all rows at once."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
import torch
from torch import Tensor

from emloop_mtl.tasks.metrics import create_metric
from emloop_mtl.tasks.metrics.custom_metric import CustomMetric
from emloop_mtl.tasks.metrics.kept_rows import MOST_BATCHES, MOST_BYTES, KeptRows
from emloop_mtl.tasks.scorer import Scorer


def kept_bytes(metric: Any) -> int:
    return sum(value.nbytes for value in metric.state_dict().values() if isinstance(value, Tensor))


@pytest.mark.parametrize("sizes", [[0], [3, 0, 2], [1] * (2 * MOST_BATCHES + 5)], ids=["none", "few", "many"])
def test_rows_come_back_in_their_order(sizes: list[int]) -> None:
    values = torch.arange(2 * sum(sizes)).view(-1, 2)
    rows = KeptRows()
    for value in values.split(sizes):
        rows.add(value)
    assert rows.number == len(values)
    for _ in range(2):  # fetching changes nothing
        assert torch.equal(rows.fetch(), values)
    rows.add(values[:1])
    assert torch.equal(rows.fetch(), torch.cat([values, values[:1]]))
    assert torch.equal(KeptRows([values]).fetch(), values)


def test_many_small_batches_take_the_memory_of_their_rows() -> None:
    """A tensor of one number takes more than a hundred times as much as the number."""
    number = 40 * MOST_BATCHES
    label, prob = torch.tensor([1]), torch.tensor([0.5])
    metric = create_metric("roc_auc")
    metric.update(label, prob, None)
    tracemalloc.start()  # of Python's objects alone: the tensors that are left
    for _ in range(number):
        metric.update(label, prob, None)
    objects, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert objects < 40 * number  # a tensor for each batch and column would be 2 * 80 bytes and more
    assert kept_bytes(metric) == 8 * (number + 1)  # int32 and float32


def test_large_batches_are_joined_before_they_are_many() -> None:
    rows = KeptRows()
    value = torch.zeros(MOST_BYTES // 8 // 3, dtype=torch.float64)
    waiting = []
    for _ in range(5):
        rows.add(value)
        waiting.append(len(rows._new))
    assert waiting == [1, 2, 3, 0, 1]  # three are a little less than MOST_BYTES


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("roc_auc", 4 + 3 * 4),
        ("average_precision", 4 + 3 * 4),
        (lambda golds, preds: 0.0, 8 + 8),
        (lambda golds, probs: 0.0, 8 + 3 * 4),
        (lambda golds, probs, preds: 0.0, 8 + 3 * 4 + 8),
        ("sklearn.metrics.matthews_corrcoef", 8 + 8),
        ("sklearn.metrics.log_loss", 8 + 3 * 4),
    ],
    ids=["roc_auc", "average_precision", "preds", "probs", "both", "matthews_corrcoef", "log_loss"],
)
def test_only_what_a_metric_needs_is_kept(metric: Any, expected: int) -> None:
    made = create_metric(metric)
    label, prob = torch.arange(60) % 3, torch.rand(60, 3)
    for rows in torch.arange(60).split(7):
        made.update(label[rows], prob[rows], prob[rows].argmax(1))
    assert kept_bytes(made) == 60 * expected


def test_correlations_keep_a_label_and_a_value_per_row() -> None:
    for name in ("spearman_correlation", "pearson_spearman"):
        metric = create_metric(name)
        metric.update(torch.rand(60), torch.rand(60), torch.rand(60))
        assert kept_bytes(metric) == 60 * (4 + 4)


def test_labels_that_do_not_fit_into_less_are_still_told_apart() -> None:
    metric = create_metric("roc_auc")
    metric.update(torch.tensor([0, 2**40, 0, 2**40]), torch.tensor([0.1, 0.3, 0.2, 0.4]), None)
    assert metric.compute() == {"roc_auc": 1.0}


def test_the_memory_of_a_scorer_with_sufficient_statistics_does_not_grow() -> None:
    """All metrics of classes that need no rows, in one scorer."""
    names = ["accuracy", "f1_macro", "precision_weighted", "recall_micro", "balanced_accuracy", "log_loss"]
    scorer = Scorer([*names, "brier_score", "calibration_error", "matthews_correlation", "exact_match"])
    label, prob = torch.arange(64) % 4, torch.rand(64, 4).softmax(1)
    scorer.update(label, prob, prob.argmax(1))

    def size() -> int:
        return sum(value.nbytes for state in scorer.state_dict().values() for value in _tensors(state))

    before = size()
    tracemalloc.start()
    for _ in range(300):
        scorer.update(label, prob, prob.argmax(1))
    objects, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size() == before < 2000
    assert objects < 20_000  # a number kept for each metric and batch would be 10 * 300 * 24 bytes and more


def test_a_function_of_uids_keeps_them() -> None:
    metric = CustomMetric("last", lambda golds, probs, preds, uids: uids[-1])
    for start in (0, 5):
        metric.update(torch.zeros(5), None, torch.zeros(5), torch.arange(start, start + 5))
    assert metric.compute() == {"last": 9.0}


def _tensors(state: Any) -> list[Tensor]:
    return [value for value in state.values() if isinstance(value, Tensor)]
