"""Rows of predictions: which shapes of labels, predictions and probabilities become which values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from emloop_mtl.data.batch import Batch
from emloop_mtl.data.column_dataset import ColumnDataset
from emloop_mtl.data.task_loader import TaskLoader
from emloop_mtl.errors import DataError
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.models.prediction_rows import COLUMNS, PredictionRows
from emloop_mtl.tasks.task import Task

ROWS = 5


class Shaped(nn.Module):
    """Reads the rows of x, [n, m], as [n, *shape]; without parameters, so that every output is known."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), *self.shape)


def model_of(shape: tuple[int, ...], loss: str | None, label: str | None = "y", **settings: Any) -> MultiTaskModel:
    flow = [{"name": "out", "module": "shaped", "inputs": "x"}]
    task = Task("task", modules={"shaped": Shaped(*shape)}, flow=flow, label=label, loss=loss, **settings)
    return MultiTaskModel([task], device="cpu")


def rows_of(model: MultiTaskModel, *batches: dict[str, Any] | Batch, **options: Any) -> list[dict[str, Any]]:
    rows = PredictionRows(**options)
    found = []
    for given in batches:
        batch = model.prepare(given if isinstance(given, Batch) else Batch(given))
        batch.update(model.run(batch, train=False))
        found += rows.take(batch)
    found += rows.rest()
    assert rows.rest() == []
    assert all(tuple(row) == COLUMNS for row in found)
    return found


def numbers(*shape: int) -> Tensor:
    return torch.randn(ROWS, *shape, generator=torch.Generator().manual_seed(0))


def column(rows: list[dict[str, Any]], key: str) -> list[Any]:
    return [row[key] for row in rows]


def test_classes_have_their_probabilities() -> None:
    x, y = numbers(3), torch.arange(ROWS) % 3
    rows = rows_of(model_of((3,), "cross_entropy"), {"x": x, "y": y})
    assert column(rows, "prob") == x.softmax(1).tolist()
    assert column(rows, "pred") == x.argmax(1).tolist()
    assert column(rows, "label") == y.tolist()
    assert column(rows, "uid") == [0, 1, 2, 3, 4]
    assert type(rows[0]["pred"]) is int


@pytest.mark.parametrize("shape", [(), (1,)], ids=["[n]", "[n, 1]"])
@pytest.mark.parametrize("label_shape", [(), (1,)], ids=["label [n]", "label [n, 1]"])
def test_values_are_numbers_without_probabilities(shape: tuple[int, ...], label_shape: tuple[int, ...]) -> None:
    x, y = numbers(1), numbers(*label_shape)
    rows = rows_of(model_of(shape, "mse_loss"), {"x": x, "y": y})
    assert column(rows, "pred") == x.flatten().tolist()
    assert column(rows, "label") == y.flatten().tolist()
    assert column(rows, "prob") == [None] * ROWS


@pytest.mark.parametrize("shape", [(), (1,)], ids=["[n]", "[n, 1]"])
def test_one_probability_is_a_number(shape: tuple[int, ...]) -> None:
    x, y = numbers(1), (torch.arange(ROWS) % 2).float()
    rows = rows_of(model_of(shape, "binary_cross_entropy_with_logits"), {"x": x, "y": y})
    assert column(rows, "prob") == x.flatten().sigmoid().tolist()
    assert column(rows, "pred") == (x.flatten() > 0).long().tolist()
    assert column(rows, "label") == y.tolist()


def test_several_labels_are_lists() -> None:
    x, y = numbers(3), (numbers(3) > 0).float()
    rows = rows_of(model_of((3,), "binary_cross_entropy_with_logits"), {"x": x, "y": y})
    assert column(rows, "prob") == x.sigmoid().tolist()
    assert column(rows, "pred") == (x > 0).long().tolist()
    assert column(rows, "label") == y.tolist()


@pytest.mark.parametrize("length", [4, 1])
def test_sequences_stay_lists_even_if_all_of_a_batch_have_one_entry(length: int) -> None:
    x, y = numbers(3 * length), torch.zeros(ROWS, length, dtype=torch.long)
    rows = rows_of(model_of((3, length), "cross_entropy"), {"x": x, "y": y})
    dense = x.reshape(ROWS, 3, length)
    assert column(rows, "prob") == dense.softmax(1).tolist()
    assert column(rows, "pred") == dense.argmax(1).tolist()
    assert column(rows, "label") == y.tolist()


def test_missing_labels_are_none() -> None:
    y = torch.tensor([1.0, float("nan"), 3.0, float("nan"), 5.0])
    rows = rows_of(model_of((1,), "mse_loss", missing_label=float("nan")), {"x": numbers(1), "y": y})
    assert column(rows, "label") == [1.0, None, 3.0, None, 5.0]


@pytest.mark.parametrize("label", ["y", None], ids=["declared", "none"])
def test_data_without_labels_have_rows(label: str | None) -> None:
    rows = rows_of(model_of((3,), "cross_entropy" if label else None, label), {"x": numbers(3)})
    assert column(rows, "label") == [None] * ROWS
    assert len(column(rows, "pred")) == ROWS


@pytest.mark.parametrize(
    ("uids", "expected"),
    [
        (torch.arange(10, 15), [10, 11, 12, 13, 14]),
        (np.arange(10, 15, dtype=np.int32), [10, 11, 12, 13, 14]),
        ([np.int64(3), np.str_("b"), "c", (1, 2), 5], [3, "b", "c", (1, 2), 5]),
        (np.array(["a", "b", "c", "d", "e"]), ["a", "b", "c", "d", "e"]),
    ],
    ids=["tensor", "array", "list", "texts"],
)
def test_uids_are_plain(uids: Any, expected: list[Any]) -> None:
    found = column(rows_of(model_of((3,), None, None), {"x": numbers(3), "_uids_": uids}), "uid")
    assert found == expected
    assert {type(each) for each in found} <= {int, str, tuple}


def test_rows_without_uids_are_numbered_over_all_batches() -> None:
    model = model_of((3,), None, None)
    batch = {"x": numbers(3)}
    assert column(rows_of(model, dict(batch), dict(batch)), "uid") == list(range(2 * ROWS))
    assert column(rows_of(model, dict(batch), count=7), "uid") == list(range(7, 7 + ROWS))
    found = model.predict([dict(batch), dict(batch)])
    assert found["task"].uids == list(range(2 * ROWS))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_precision_is_that_of_the_output(dtype: torch.dtype) -> None:
    x = numbers(1).to(dtype)
    rows = rows_of(model_of((1,), None, None, output=lambda outputs: outputs["out"]), {"x": x})
    assert column(rows, "pred") == x.flatten().tolist()


def two_tasks() -> MultiTaskModel:
    tasks = [
        Task(name, modules={name: Shaped(2)}, flow=[{"name": f"{name}_out", "module": name, "inputs": "x"}])
        for name in ("one", "two")
    ]
    return MultiTaskModel(tasks, device="cpu")


def test_rows_of_a_sample_stand_together_and_tasks_can_be_chosen() -> None:
    batch = {"x": numbers(2)}
    found = [(row["uid"], row["task"]) for row in rows_of(two_tasks(), dict(batch))]
    assert found == [(uid, task) for uid in range(ROWS) for task in ("one", "two")]
    assert {row["task"] for row in rows_of(two_tasks(), dict(batch), tasks=["two"])} == {"two"}
    # A batch that carries none of the tasks is counted all the same.
    other = Batch(dict(batch), tasks={"one": None}, data_name="first")
    mine = Batch(dict(batch), tasks={"two": None}, data_name="second")
    found_rows = rows_of(two_tasks(), other, mine, tasks=["two"])
    assert [(row["uid"], row["data"]) for row in found_rows] == [(uid, "second") for uid in range(ROWS, 2 * ROWS)]


def test_a_batch_is_held_back_until_the_next_one_comes() -> None:
    model, rows = model_of((3,), None, None), PredictionRows()
    batches = [model.prepare(Batch({"x": numbers(3)})) for _ in range(3)]
    for batch in batches:
        batch.update(model.run(batch, train=False))
    counts = [len(rows.take(batch)) for batch in batches]
    assert counts == [0, ROWS, ROWS]
    assert len(rows.rest()) == ROWS


@pytest.fixture
def partly_labelled() -> Callable[..., list[Any]]:
    """A batch whose labels are partly missing, one without labels, and one whose labels are all missing."""

    def make(dtype: torch.dtype = torch.long, mark: float = -100) -> list[Any]:
        y = torch.tensor([0, mark, 2, mark, 1], dtype=dtype)
        gone = torch.full((ROWS,), mark, dtype=dtype)
        return [{"x": numbers(3), "y": y}, {"x": numbers(3)}, {"x": numbers(3), "y": gone}]

    return make


def test_labelled_rows_can_be_picked(partly_labelled: Callable[..., list[Any]]) -> None:
    model = model_of((3,), "cross_entropy", missing_label=-100)
    found = model.predict(partly_labelled())["task"]
    assert found.labels is None
    assert np.flatnonzero(found.is_labelled).tolist() == [0, 2, 4]
    assert found.is_labelled.shape == (3 * ROWS,)
    kept = found.labelled()
    assert kept.uids == [0, 2, 4]
    assert len(kept) == 3
    assert kept.is_labelled.all()
    for values, whole in ((kept.preds, found.preds), (kept.probs, found.probs)):
        assert values is not None
        assert whole is not None
        np.testing.assert_array_equal(values, whole[[0, 2, 4]])
    assert kept.labels is not None
    assert kept.labels.tolist() == [0, 2, 1]


def test_labels_with_marks_are_returned_with_them() -> None:
    y = torch.tensor([0, -100, 2, -100, 1])
    model = model_of((3,), "cross_entropy", missing_label=-100)
    found = model.predict([{"x": numbers(3), "y": y}])["task"]
    assert found.labels is not None
    assert found.labels.tolist() == y.tolist()
    assert found.is_labelled.tolist() == [True, False, True, False, True]


def test_nothing_labelled_leaves_nothing() -> None:
    found = model_of((3,), "cross_entropy").predict([{"x": numbers(3)}])["task"]
    assert not found.is_labelled.any()
    assert len(found.labelled()) == 0
    assert found.labelled().labels is None


def test_outputs_of_another_width_per_batch_make_no_array() -> None:
    model = model_of((3, -1), None, None)
    found = model.predict([{"x": numbers(3)}, {"x": numbers(6)}])["task"]
    with pytest.raises(DataError, match="task 'task': what it says has another shape from batch to batch"):
        _ = found.probs


def test_rows_of_a_loader_are_those_of_predict() -> None:
    dataset = ColumnDataset("things", {"x": numbers(3)}, {"y": torch.arange(ROWS) % 3})
    loader = TaskLoader(dataset, split="valid", batch_size=2)
    model = model_of((3,), "cross_entropy")
    rows, found = rows_of(model, *loader), model.predict(loader)["task"]
    assert found.preds is not None
    assert found.probs is not None
    assert column(rows, "pred") == found.preds.tolist()
    assert column(rows, "prob") == found.probs.tolist()
    assert column(rows, "uid") == found.uids
    assert set(column(rows, "data")) == {"things"}
