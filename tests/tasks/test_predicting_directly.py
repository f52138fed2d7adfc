"""Predictions where nobody reads the probabilities."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from emloop_mtl.tasks.action import Action
from emloop_mtl.tasks.task import Task

COLUMNS = torch.tensor([[0.5, 2.0, 2.0], [-1.0, -3.0, float("-inf")], [0.0, 0.0, 0.0]])


def make(loss: Any, **options: Any) -> Task:
    return Task("t", flow=[Action("logits", "head", "x")], label="y", loss=loss, **options)


@pytest.mark.parametrize(
    ("task", "output"),
    [
        (make("cross_entropy"), COLUMNS),
        (make("cross_entropy"), torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0))),
        (make("nll_loss"), COLUMNS.log_softmax(1)),
        (make("cross_entropy"), torch.randn(4, 1, generator=torch.Generator().manual_seed(0))),
        (make("bce_with_logits"), torch.tensor([-1.0, 0.0, 0.5])),
        (make("bce_with_logits"), COLUMNS),
        (make("bce", output="softmax"), COLUMNS),
        (make("mse"), torch.tensor([0.25, 3.0])),
        (make("poisson_nll"), torch.tensor([0.25, 3.0])),
        (make("mse", output=lambda outputs: outputs["logits"] * 2), torch.tensor([0.25, 3.0])),
    ],
    ids=["classes", "maps", "log", "column", "binary", "labels", "shares", "values", "counts", "function"],
)
def test_they_equal_those_from_probabilities(task: Task, output: Tensor) -> None:
    outputs = {"logits": output}
    expected = task.predictions(task.probabilities(outputs))
    found = task.predict(outputs)
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)


def test_classes_are_predicted_without_computing_probabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "softmax", None)
    assert make("cross_entropy").predict({"logits": COLUMNS}).tolist() == [1, 0, 0]


def test_an_undefined_row_counts_as_its_first_undefined_class() -> None:
    assert make("cross_entropy").predict({"logits": torch.tensor([[1.0, float("nan"), 2.0]])}).tolist() == [1]
