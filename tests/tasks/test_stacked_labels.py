from __future__ import annotations

import pytest
import torch

from emloop_mtl.tasks.stacked_labels import StackedLabels
from emloop_mtl.tasks.target import Target


def test_labels_are_joined_in_their_order() -> None:
    labels = [torch.tensor([1, 2]), torch.tensor([3, 4]), torch.tensor([5, 6])]
    stacked = StackedLabels.of(labels, [], Target.CLASS)
    assert stacked is not None
    assert stacked.values.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert stacked.labelled is None
    assert stacked.counts is None
    assert stacked.unlabelled == []


@pytest.mark.parametrize("late", [False, True])
def test_rows_without_labels_are_left_out(late: bool) -> None:
    labels = [torch.tensor([1.0, float("nan")]), torch.tensor([float("nan")] * 2), torch.tensor([5.0, 6.0])]
    rows = [torch.tensor([0]), torch.tensor([], dtype=torch.int64), None]
    if late:
        stacked = StackedLabels.of(labels, rows, Target.VALUE)
        assert stacked is not None
    else:
        stacked = StackedLabels.of(labels, [], Target.VALUE)
        assert stacked is not None
        kept = stacked.keep(torch.tensor([0, 4, 5]))
        assert [None if some is None else some.tolist() for some in kept] == [[0], [], None]
    assert stacked.values.tolist() == [[1.0, 0.0], [0.0, 0.0], [5.0, 6.0]]
    assert stacked.labelled is not None
    assert stacked.counts is not None
    assert stacked.labelled.tolist() == [[True, False], [False, False], [True, True]]
    assert stacked.counts.tolist() == [1, 1, 2]
    assert stacked.unlabelled == [1]


@pytest.mark.parametrize(
    ("second", "target"),
    [
        (torch.tensor([1]), Target.CLASS),
        (torch.tensor([1.0, 2.0]), Target.CLASS),
        (torch.tensor([[1], [2]]), Target.CLASS),
        ([1, 2], Target.CLASS),
    ],
    ids=["shorter", "of another dtype", "a column", "a list"],
)
def test_what_does_not_go_together_is_not_joined(second: object, target: Target) -> None:
    assert StackedLabels.of([torch.tensor([1, 2]), second], [], target) is None


@pytest.mark.parametrize("shape", [(2, 1), (2, 3)])
def test_rows_of_several_classes_are_not_joined(shape: tuple[int, ...]) -> None:
    labels = [torch.zeros(shape, dtype=torch.int64)] * 3
    assert StackedLabels.of(labels, [], Target.CLASS) is None
    assert StackedLabels.of(labels, [], Target.BINARY) is not None


def test_what_torch_cannot_compare_is_not_joined() -> None:
    assert StackedLabels.of([torch.zeros(2, dtype=torch.uint16)] * 3, [], Target.CLASS) is None


def test_an_empty_batch_is_not_joined() -> None:
    assert StackedLabels.of([torch.zeros(0)] * 3, [], Target.VALUE) is None
