"""Labels of several batches of columns are checked at once, and nothing else changes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from emloop_mtl.data import Batch, ColumnDataset, TaskLoader
from emloop_mtl.data.column_reader import BATCHES_AT_ONCE
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
    options = {"missing_label": -1, **options}
    task = kind("t", {"head": nn.Linear(4, 3)}, [Action("o", "head", "x")], "y", "cross_entropy", **options)
    return MultiTaskModel([task], optimizer="sgd", device="cpu")


def make_loader(labels: Any = None, **options: Any) -> TaskLoader:
    labels = torch.arange(ROWS) % 3 if labels is None else labels
    return TaskLoader(
        ColumnDataset("d", {"x": torch.zeros(len(labels), 4)}, {"y": labels}), {"t": "y"}, **{"batch_size": 4} | options
    )


def on_device(loader: TaskLoader) -> TaskLoader:
    """Let columns behave as those on a device do, which torch counts the changes of."""
    for column in loader.dataset.columns:
        column._on_host = False
    return loader


def test_batches_that_are_read_at_once_are_checked_at_once(checked: list[int]) -> None:
    size = 4 * (BATCHES_AT_ONCE + 3)
    model, loader = make_model(), make_loader(torch.arange(size) % 3)
    for pass_number in range(2):
        for batch in loader.batches(pass_number):
            model.prepare(batch)
            assert batch.rows == {}
            assert batch.origin is None
    assert checked == [4 * BATCHES_AT_ONCE, 4 * 3] * 2


def test_a_batch_that_is_read_alone_is_checked_alone(checked: list[int]) -> None:
    labels = torch.arange(2**17) % 3
    labels[5] = -1
    model, loader = make_model(), make_loader(labels, batch_size=2**16)
    assert [len(model.prepare(batch).rows) for batch in loader] in ([0, 1], [1, 0])
    assert checked == [2**16] * 2


def test_a_column_on_a_device_is_checked_once_for_all_passes(checked: list[int]) -> None:
    model, loader = make_model(), on_device(make_loader())
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
    model = make_model()
    rows = [model.prepare(batch).rows for batch in make_loader(labels, shuffle=False)]
    assert [{task: found.tolist() for task, found in each.items()} for each in rows] == [{}, {"t": [0, 2, 3]}, {}]
    # All of them, of which row 5 is found to be missing, then each batch.
    assert checked == [ROWS, 4, 4, 2]


def test_errors_are_those_of_the_batch(checked: list[int]) -> None:
    labels = torch.arange(ROWS) % 3
    labels[6] = 3
    batches = iter(make_loader(labels, shuffle=False))
    model = make_model()
    model.prepare(next(batches))
    with pytest.raises(DataError, match=r"^task 't', source 'y': label 3 in row 2 is out of range 0\.\.2; missing"):
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


def by_torch(labels: torch.Tensor, row: int, label: int) -> None:
    labels[row] = label


def by_numpy(labels: torch.Tensor, row: int, label: int) -> None:
    labels.numpy()[row] = label


def behind_the_back_of_torch(labels: torch.Tensor, row: int, label: int) -> None:
    labels.data[row] = label


@pytest.mark.parametrize("change", [by_torch, by_numpy, behind_the_back_of_torch])
def test_a_column_may_be_changed_in_any_way(change: Any) -> None:
    labels = torch.arange(ROWS) % 3
    model, loader = make_model(), make_loader(labels, shuffle=False)
    assert [model.prepare(batch).rows for batch in loader] == [{}, {}, {}]
    change(labels, 6, -1)
    rows = [model.prepare(batch).rows for batch in loader.batches(1)]
    assert [{task: found.tolist() for task, found in each.items()} for each in rows] == [{}, {"t": [0, 1, 3]}, {}]
    change(labels, 6, 7)
    with pytest.raises(DataError, match="label 7 in row 2"):
        for batch in loader.batches(2):
            model.prepare(batch)


def test_a_column_on_a_device_that_was_changed_since_is_checked_again(checked: list[int]) -> None:
    labels = torch.arange(ROWS) % 3
    model, loader = make_model(), on_device(make_loader(labels))
    for batch in loader:
        model.prepare(batch)
    labels[3] = 7
    with pytest.raises(DataError, match="label 7 in row"):
        for batch in loader.batches(1):
            model.prepare(batch)
    assert checked[:3] == [ROWS, ROWS, 4]
    # Changed while its batches wait, a column tells nothing of them: they are looked at themselves.
    labels[3] = 0
    batch = next(iter(loader))
    labels[3] = 7
    checked.clear()
    model.prepare(batch)
    assert checked == [ROWS]
    assert batch.rows == {}


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
