from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from emloop_mtl.errors import ConfigError, DataError
from emloop_mtl.tasks.metrics import TopAccuracy


def score(topk: int, label: Any, prob: Any) -> float:
    metric = TopAccuracy(topk)
    metric.update(torch.tensor(label), torch.tensor(prob), None)
    return metric.compute()[f"accuracy@{topk}"]


def test_of_equals_the_lower_class_comes_first() -> None:
    prob = [[0.25, 0.25, 0.25, 0.25]] * 4
    assert [score(topk, [0, 1, 2, 3], prob) for topk in (1, 2, 3, 4, 5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert score(1, [1, 2], [[0.2, 0.4, 0.4], [0.2, 0.4, 0.4]]) == 0.5


def test_a_label_that_is_no_class_is_never_right() -> None:
    assert score(5, [-1, 3, 2, 0], [[0.2, 0.3, 0.5]] * 4) == 0.5


def test_a_probability_that_is_nan_is_never_right() -> None:
    nan = math.nan
    assert score(3, [0, 1, 2], [[nan, nan, nan], [nan, 0.5, nan], [0.1, 0.2, nan]]) == 1 / 3


def test_dense_labels_columns_and_probable_labels() -> None:
    prob = torch.softmax(torch.tensor([[[3.0, 0.0], [2.0, 1.0], [1.0, 2.0]]]), 1)  # one row of two entries, 3 classes
    for label, expected in (([[1, 0]], 0.5), ([[2, 2]], 0.5), ([[1, 1]], 1.0)):
        metric = TopAccuracy(2)
        metric.update(torch.tensor(label), prob, None)
        assert metric.compute() == {"accuracy@2": expected}
    metric = TopAccuracy(2)
    metric.ignored_label = 255
    metric.update(torch.tensor([[255, 1]]), prob, None)
    assert metric.compute() == {"accuracy@2": 1.0}
    flat = [[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]]
    assert score(2, [[1], [2]], flat) == 0.5
    assert score(2, [[0.1, 0.8, 0.1], [0.1, 0.1, 0.8]], flat) == 0.5


@pytest.mark.parametrize("topk", [0, -1, True, 1.5, "3"])
def test_wrong_numbers_of_classes_are_refused(topk: Any) -> None:
    with pytest.raises(ConfigError, match="topk must be a whole number > 0"):
        TopAccuracy(topk)


def test_it_needs_probabilities_of_classes() -> None:
    with pytest.raises(ConfigError, match=r"'accuracy@2' needs probabilities \[n, classes\], and there are none"):
        TopAccuracy(2).update(torch.tensor([0]), None, torch.tensor([0]))
    with pytest.raises(ConfigError, match=r"and there are of shape \(1,\)"):
        TopAccuracy(2).update(torch.tensor([0]), torch.tensor([0.5]), None)
    with pytest.raises(ConfigError, match=r"and there are of shape \(1, 1\)"):
        TopAccuracy(2).update(torch.tensor([0]), torch.tensor([[0.5]]), None)
    with pytest.raises(DataError, match="labels of shape"):
        TopAccuracy(2).update(torch.tensor([0, 1]), torch.rand(3, 3), None)
