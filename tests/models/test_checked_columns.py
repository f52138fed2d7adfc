"""Labels of columns in memory are checked once, and nothing else changes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from emloop_mtl.data import Batch, ColumnDataset, TaskLoader
from emloop_mtl.errors import DataError
from emloop_mtl.models import checked_columns
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.tasks import Action, Task
from emloop_mtl.tasks.label_check import LabelCheck

ROWS = 10


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many labels each check looked at."""
    sizes: list[int] = []
    check = LabelCheck.__call__

    def counted(self: LabelCheck, label: Any) -> Any:
        sizes.append(len(label))
        return check(self, label)

    monkeypatch.setattr(LabelCheck, "__call__", counted)
    return sizes


def make_model(kind: type[Task] = Task, **options: Any) -> MultiTaskModel:
    task = kind("t", {"head": nn.Linear(4, 3)}, [Action("o", "head", "x")], "y", "cross_entropy", **options)
    return MultiTaskModel([task], optimizer="sgd", device="cpu")


def make_loader(labels: Any = None, **options: Any) -> TaskLoader:
    labels = torch.arange(ROWS) % 3 if labels is None else labels
    return TaskLoader(
        ColumnDataset("d", {"x": torch.zeros(len(labels), 4)}, {"y": labels}), {"t": "y"}, **{"batch_size": 4} | options
    )


def test_a_column_is_checked_once_for_all_passes(checked: list[int]) -> None:
    model, loader = make_model(), make_loader()
    for pass_number in range(3):
        for batch in loader.batches(pass_number):
            model.prepare(batch)
            assert batch.rows == {}
            assert batch.origin is None
    assert checked == [ROWS]


def test_each_model_and_each_column_is_checked(checked: list[int]) -> None:
    loaders = [make_loader(), make_loader()]
    for model in (make_model(), make_model()):
        for loader in loaders:
            for batch in loader:
                model.prepare(batch)
    assert checked == [ROWS] * 4


def test_a_column_that_lacks_labels_is_checked_batch_by_batch(checked: list[int]) -> None:
    labels = torch.arange(ROWS) % 3
    labels[5] = -1
    model = make_model(missing_label=-1)
    rows = [model.prepare(batch).rows for batch in make_loader(labels, shuffle=False)]
    assert [{task: found.tolist() for task, found in each.items()} for each in rows] == [{}, {"t": [0, 2, 3]}, {}]
    # The column, of which row 5 is found to be missing, then what is labelled of each batch.
    assert checked == [ROWS, 4, 4, 2]


def test_errors_are_those_of_the_batch(checked: list[int]) -> None:
    labels = torch.arange(ROWS) % 3
    labels[6] = 3
    batches = iter(make_loader(labels, shuffle=False))
    model = make_model()
    model.prepare(next(batches))
    with pytest.raises(DataError, match=r"^task 't', source 'y': label 3 in row 2 is out of range 0\.\.2; set missing"):
        model.prepare(next(batches))
    model.prepare(next(batches))
    assert checked == [ROWS, 4, 4, 2]


def change_in_place(batch: Batch) -> None:
    batch["y"][1] = 7


def replace(batch: Batch) -> None:
    batch["y"] = torch.full_like(batch["y"], 7)


@pytest.mark.parametrize("change", [change_in_place, replace])
def test_a_label_that_was_changed_since_is_checked(change: Any, checked: list[int]) -> None:
    model = make_model()
    batches = iter(make_loader())
    model.prepare(next(batches))
    batch = next(batches)
    change(batch)
    with pytest.raises(DataError, match="label 7 in row"):
        model.prepare(batch)
    model.prepare(next(batches))
    assert checked == [ROWS, 4]


def test_a_column_that_was_changed_since_is_checked_again(checked: list[int]) -> None:
    labels = torch.arange(ROWS) % 3
    model, loader = make_model(), make_loader(labels)
    for batch in loader:
        model.prepare(batch)
    labels[3] = 7
    with pytest.raises(DataError, match="label 7 in row"):
        for batch in loader.batches(1):
            model.prepare(batch)
    # Changed while its batches wait, a column tells nothing of them.
    batch = next(iter(make_loader(labels)))
    labels[3] = 0
    model.prepare(batch)
    assert checked[:2] == [ROWS, ROWS]
    assert checked[-1] == 4


def test_a_column_that_was_replaced_is_checked(checked: list[int]) -> None:
    model, loader = make_model(), make_loader()
    model.prepare(next(iter(loader)))
    loader.dataset.remove_label("y")
    loader.dataset.add_labels({"y": torch.full((ROWS,), 9)})
    with pytest.raises(DataError, match="label 9 in row 0"):
        model.prepare(next(iter(loader)))
    assert checked == [ROWS, ROWS, 4]


@pytest.mark.parametrize("kind", ["long", "copied", "mapped", "inference", "checked otherwise"])
def test_what_is_checked_batch_by_batch(
    kind: str, checked: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Otherwise(Task):
        def check_labels(self, label: Any, source: str | None = None) -> Any:
            return super().check_labels(label, source)

    loader, model = make_loader(), make_model(Otherwise if kind == "checked otherwise" else Task)
    if kind == "long":
        monkeypatch.setattr(checked_columns, "MOST_ELEMENTS", ROWS - 1)
    if kind == "mapped":
        np.save(tmp_path / "y.npy", np.arange(ROWS) % 3)
        loader = make_loader(np.load(tmp_path / "y.npy", mmap_mode="r"))
    batches = iter(loader)
    if kind == "inference":
        with torch.inference_mode():
            found = [next(batches)]
    else:
        found = [next(batches)]
    for batch in [*found, *batches]:
        model.prepare(batch.copy() if kind == "copied" else batch)
    assert checked == [4, 4, 2]
