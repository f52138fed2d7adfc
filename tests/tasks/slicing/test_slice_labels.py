"""Slicing functions, and the labels that they make."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Subset

from emloop_mtl import (
    Action,
    ColumnDataset,
    ConfigError,
    MultiTaskModel,
    SlicingFunction,
    Task,
    TaskLoader,
    add_slice_labels,
    slice_tasks,
    slicing_function,
)

X = torch.tensor([[1.0, 0], [2, 1], [3, 0], [4, 1], [5, 0], [6, 1]])


def big(x: Tensor) -> Tensor:
    return x[:, 0] > 3


def first(_uids_: Tensor) -> Tensor:
    return _uids_ == 0


def make_task(loss: Any = "cross_entropy", width: int = 2, **settings: Any) -> Task:
    modules = {"trunk": nn.Linear(2, 3), "head": nn.Linear(3, width)}
    flow = [Action("features", "trunk", "x"), Action("out", "head", "features")]
    return Task("kind", modules, flow, **{"label": "kind", "loss": loss, "metrics": ["accuracy"], **settings})


def labels_of(
    slices: Sequence[Callable[..., Any]], labels: Any, task: Task | None = None, **features: Any
) -> dict[str, Any]:
    """Return the columns that slices get."""
    data = ColumnDataset("rows", {"x": X, **features}, {"kind": labels})
    add_slice_labels([TaskLoader(data, {"kind": "kind"}, batch_size=6)], task or make_task(), slices)
    batch = data.__getitems__(range(6))
    return {name: batch[name] for name in data.labels if name != "kind"}


CLASSES = [0, 1, 0, 1, 0, 1]


def test_a_slice_gets_its_rows_and_their_labels() -> None:
    found = labels_of([big], CLASSES)
    assert found["kind_slice:ind_big"].tolist() == [False, False, False, True, True, True]
    assert found["kind_slice:pred_big"].tolist() == [-100, -100, -100, 1, 0, 1]


@pytest.mark.parametrize(
    ("labels", "task", "expected"),
    [
        ([True, False] * 3, {"loss": "bce_with_logits", "width": 1}, [-100, -100, -100, 0, 1, 0]),
        (np.array([0, 1] * 3, np.uint8), {}, [-100, -100, -100, 1, 0, 1]),
        ([0, 1, 0, 9, 0, 1], {"missing_label": 9}, [9, 9, 9, 9, 0, 1]),
        ([0.5] * 6, {"loss": "mse", "width": 1, "metrics": []}, [None, None, None, 0.5, 0.5, 0.5]),
        ([3] * 6, {"loss": "mse", "width": 1, "metrics": []}, [None, None, None, 3.0, 3.0, 3.0]),
        ([0.5] * 6, {"loss": "mse", "width": 1, "missing_label": -1, "metrics": []}, [-1, -1, -1, 0.5, 0.5, 0.5]),
    ],
    ids=["bools", "uint8", "missing_label", "values", "whole values", "values with missing_label"],
)
def test_rows_outside_of_a_slice_are_marked_as_the_task_marks_missing_labels(
    labels: Any, task: dict[str, Any], expected: list[Any]
) -> None:
    found = labels_of([big], labels, make_task(**task))["kind_slice:pred_big"]
    assert [None if math.isnan(value) else value for value in found.tolist()] == expected


def test_a_slicing_function_gets_the_sources_that_its_arguments_are_called_like() -> None:
    def told(
        x: Tensor, words: Tensor, words_mask: Tensor, names: list[str], kind: Tensor, limit: int = 2
    ) -> list[bool]:
        assert words.shape == words_mask.shape == (6, 3)
        assert kind.tolist() == CLASSES
        return [len(name) > limit for name in names]

    words = [torch.arange(1 + n % 3) for n in range(6)]
    found = labels_of([told, first], CLASSES, words=words, names=["a", "bcd", "e", "fgh", "i", "jkl"])
    assert found["kind_slice:ind_told"].tolist() == [False, True] * 3
    assert found["kind_slice:ind_first"].tolist() == [True] + [False] * 5


def test_a_slicing_function_may_see_row_by_row() -> None:
    @slicing_function(by_row=True, name="long", sources=["words", "_uids_"])
    def is_long(some: Tensor, uid: int) -> bool:
        return len(some) == 3 and uid > 2

    assert is_long(torch.arange(3), 5)
    found = labels_of([is_long], CLASSES, words=[torch.arange(1 + n % 3) for n in range(6)])
    assert found["kind_slice:ind_long"].tolist() == [False] * 5 + [True]


@pytest.mark.parametrize("by_row", [False, True])
def test_identifiers_are_those_of_the_feature_that_is_the_uid(by_row: bool) -> None:
    data = ColumnDataset("rows", {"x": X, "id": list("abcdef")}, {"kind": CLASSES}, uid="id")
    function = (lambda uid: uid > "c") if by_row else (lambda uids: [uid > "c" for uid in uids])
    rows = SlicingFunction(function, "late", ["_uids_"], by_row).rows_of(data)
    assert rows.tolist() == [False] * 3 + [True] * 3


def test_functions_may_return_arrays_numbers_and_columns() -> None:
    slices = [
        SlicingFunction(function, name)
        for name, function in {
            "array": lambda x: x.numpy()[:, 1] > 0,
            "numbers": lambda x: x[:, 1],
            "column": lambda x: x[:, 1:] > 0,
            "list": lambda x: [row[1] > 0 for row in x.tolist()],
        }.items()
    ]
    found = labels_of(slices, CLASSES)
    for each in slices:
        assert found[f"kind_slice:ind_{each.name}"].tolist() == [False, True] * 3, each.name


def test_loaders_of_one_data_set_share_its_columns_and_carry_what_their_rows_have(
    caplog: pytest.LogCaptureFixture,
) -> None:
    data = ColumnDataset("rows", {"x": X}, {"kind": CLASSES})
    parts = {"train": range(1, 6), "valid": range(3), "test": range(3, 6)}
    loaders = [TaskLoader(Subset(data, rows), {"kind": "kind"}, name, batch_size=2) for name, rows in parts.items()]
    with caplog.at_level(logging.WARNING):
        add_slice_labels(loaders, make_task(), [big, first])
    carried = {loader.split: [name.removeprefix("kind_slice:") for name in loader.tasks][1:] for loader in loaders}
    assert carried == {
        "train": ["pred_base", "ind_big", "pred_big", "ind_first"],
        "valid": ["pred_base", "ind_first", "pred_first", "first"],
        "test": ["pred_base", "ind_big", "pred_big", "big"],
    }
    told = "slice {!r} of task 'kind': loader 'Subset', split {!r}, has no labelled row of it; {} there"
    assert caplog.messages == [
        told.format("first", "train", "nothing is learnt of it"),
        told.format("big", "valid", "it is not scored"),
        told.format("first", "test", "it is not scored"),
    ]
    model = MultiTaskModel(slice_tasks(make_task(), [big, first]), device="cpu")
    for loader in loaders:
        for batch in loader:
            model.run(batch, train=loader.split == "train")
    scores = model.score(loaders[1:])
    assert not any(math.isnan(score) for score in scores.values()), scores


def test_of_loaders_that_name_no_tasks_the_labels_tell() -> None:
    data = {split: ColumnDataset(split, {"x": X[rows]}, {"kind": CLASSES[rows]}) for split, rows in PARTS.items()}
    loaders = [TaskLoader(each, split=split, batch_size=3) for split, each in data.items()]
    add_slice_labels(loaders, make_task(), [big])
    assert data["train"].labels == ["kind", "kind_slice:ind_big", "kind_slice:pred_big"]
    assert data["valid"].labels == ["kind"]
    model = MultiTaskModel(slice_tasks(make_task(), [big]), device="cpu")
    scores = model.score(loaders[1])
    assert scores.keys() >= {"kind/valid/valid/accuracy", "kind_slice:pred_base/valid/valid/accuracy"}
    assert not any("big" in name for name in scores)


PARTS = {"train": slice(6), "valid": slice(2)}


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (
            lambda x: x[:2, 0] > 0,
            "slice 'wrong' of data 'rows': the function returned shape [2], where a bool for each of 6 rows is needed; "
            "set by_row: true if it is one of a single row",
        ),
        (
            lambda x: True,
            "slice 'wrong' of data 'rows': the function returned shape [], where a bool for each of 6 rows is needed; "
            "set by_row: true if it is one of a single row",
        ),
        (
            lambda x: x,
            "slice 'wrong' of data 'rows': the function returned shape [6, 2], where a bool for each of 6 rows is "
            "needed; set by_row: true if it is one of a single row",
        ),
        (
            lambda x: x[:, 0],
            "slice 'wrong' of data 'rows': the function must return bools, or 0 and 1, not torch.float32 with other "
            "values",
        ),
        (
            lambda x: None,
            "slice 'wrong' of data 'rows': the function must return a bool for each row, not a NoneType; set by_row: "
            "true if it is one of a single row",
        ),
        (
            lambda x: x.sizes,
            "slice 'wrong' of data 'rows': the function fails: AttributeError: 'Tensor' object has no attribute "
            "'sizes'",
        ),
        (
            lambda x: ["yes"] * 6,
            "slice 'wrong' of data 'rows': the function must return a bool for each row, not a list; set by_row: true "
            "if it is one of a single row",
        ),
        (
            lambda x: [[1], [1, 0]],
            "slice 'wrong' of data 'rows': the function must return a bool for each row, not a list; set by_row: true "
            "if it is one of a single row",
        ),
        (
            slicing_function(by_row=True, name="wrong")(lambda x: x),
            "slice 'wrong' of data 'rows': the function must return a bool for each row, or 0 or 1, not "
            "tensor([1., 0.])",
        ),
    ],
    ids=["length", "one", "shape", "numbers", "nothing", "failure", "text", "ragged", "row"],
)
def test_a_function_that_returns_anything_else_is_refused(function: Any, text: str) -> None:
    each = function if isinstance(function, SlicingFunction) else SlicingFunction(function, "wrong")
    with pytest.raises(ConfigError) as caught:
        labels_of([each], CLASSES)
    assert str(caught.value) == text


def nowhere(x: Tensor) -> Tensor:
    return x[:, 0] > 99


def of_sizes(sizes: Tensor) -> Tensor:
    return sizes > 0


def of_all(*columns: Tensor) -> Tensor:
    return columns[0] > 0


@pytest.mark.parametrize(
    ("slices", "text"),
    [
        (big, "slices must be a list of slicing functions, at least one, not <function big at "),
        ([], "slices must be a list of slicing functions, at least one, not []"),
        ("big", "slices must be a list of slicing functions, at least one, not 'big'"),
        (["big"], "slices[0]: a slicing function is a function of sources, in YAML its dotted path, not 'big'"),
        ([big, big], "two slices are called 'big'; give one of them another name"),
        ([lambda x: x], "slices[0]: '<lambda>' cannot name a slice; set 'name' to a word without "),
        ([of_all], "slices[0]: slice 'of_all': its function has no arguments that are called like sources; set 'sou"),
        ([of_sizes], "slice 'of_sizes': data 'rows' has no source 'sizes'; known are: _uids_, kind, x"),
        ([nowhere], "slice 'nowhere' of task 'kind' has no labelled row in any loader"),
    ],
    ids=["function", "none", "text", "name", "twice", "lambda", "open", "source", "nowhere"],
)
def test_slices_that_cannot_be_are_told_in_one_line(slices: Any, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        labels_of(slices, CLASSES)
    assert str(caught.value).startswith(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: SlicingFunction(big, "base"), "'base' is the slice of all rows, which there always is; rename this "),
        (lambda: SlicingFunction(big, "a.b"), "'a.b' cannot name a slice; set 'name' to a word without '.', '/', "),
        (lambda: SlicingFunction(big, "keys"), "'keys' cannot name a slice; set 'name' to a word without "),
        (
            lambda: SlicingFunction(big, sources=[]),
            "slice 'big': sources must be a list of names, at least one, not []",
        ),
        (lambda: SlicingFunction(big, sources="x"), "slice 'big': sources is a list; write [x]"),
        (lambda: slice_tasks(make_task(), [big], weight=-1), "weight must be a number >= 0, not -1"),
        (
            lambda: slice_tasks(make_task(), [big, SlicingFunction(first, "ind_big")]),
            "task 'kind': two slice tasks would be called 'kind_slice:ind_big'; rename a slice",
        ),
        (lambda: slice_tasks(make_task(), {"kin": [big]}), "slices: there is no task 'kin'; did you mean 'kind'?"),
        (
            lambda: slice_tasks([make_task(), make_task()], [big]),
            "there are 2 tasks; set slices to a mapping of their names to slicing functions",
        ),
        (
            lambda: slice_tasks(Task("kind", {"head": nn.Linear(2, 2)}, [Action("out", "head", "x")], "kind"), [big]),
            "task 'kind': slices need a head, the last action, and one before it that makes features; 'out' is the on",
        ),
        (
            lambda: slice_tasks(make_task(tokens="x", metrics=[]), [big]),
            "task 'kind': its labels are those of tokens, and slices are sets of rows",
        ),
        (
            lambda: slice_tasks(slice_tasks(make_task(), [big])[0], [big]),
            "task 'kind': it has slices already, or a module or action called 'kind_slices'",
        ),
        (
            lambda: slice_tasks(make_task(), [big], dataset=5),  # type: ignore[arg-type]
            "slices need a MultiTaskDataset, or its loaders, not 5",
        ),
        (
            lambda: slice_tasks(Task("kind", {}, make_task().flow, "kind", "cross_entropy"), [big]),
            "task 'kind': slices need a head, the last action; module 'head' must be one of the task, or stand under ",
        ),
        (
            lambda: slice_tasks(
                Task("kind", {"head": nn.Bilinear(3, 3, 2)}, make_task().flow, "kind", "cross_entropy"), [big]
            ),
            "task 'kind': slices need a head, the last action; module 'head' must be a linear layer or an nn.Sequent",
        ),
        (
            lambda: slice_tasks(make_task(lambda outputs, label: outputs["out"].mean(), metrics=[]), [big]),
            "task 'kind': its loss does not tell what its labels are; set missing_label, which marks rows outside of ",
        ),
        (
            lambda: add_slice_labels(
                [TaskLoader([{"x": 1, "kind": 0}], {"kind": "kind"}, batch_size=1)], make_task(), [big]
            ),
            "loader 'list': slices need a ColumnDataset, not a list; label its slices in the data themselves",
        ),
        (
            lambda: add_slice_labels([TaskLoader([{"x": 1}], {"other": None}, batch_size=1)], make_task(), [big]),
            "no loader carries labels of task 'kind', so there is nothing to take slices of",
        ),
    ],
    ids=[
        *(
            "base",
            "dots",
            "word of torch",
            "no sources",
            "sources",
            "weight",
            "clash",
            "unknown task",
            "several tasks",
            "one action",
            "tokens",
            "twice",
            "no dataset",
            "no module",
        ),
        *("no linear head", "loss in Python", "rows", "no loader"),
    ],
)
def test_what_cannot_have_slices_is_told_in_one_line(make: Callable[[], Any], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value).startswith(text)
    assert "\n" not in str(caught.value)


def test_equal_labels_may_be_added_again_as_for_the_models_of_an_ensemble() -> None:
    data = ColumnDataset("rows", {"x": X}, {"kind": [0.5] * 6})
    loader = TaskLoader(data, {"kind": "kind"}, batch_size=6)
    task = make_task("mse", 1, metrics=[])
    for _ in range(2):
        add_slice_labels([loader], task, [big])
    assert data.labels == ["kind", "kind_slice:ind_big", "kind_slice:pred_big"]
    with pytest.raises(ConfigError, match="the name 'kind_slice:ind_big' is taken"):
        add_slice_labels([loader], task, [SlicingFunction(first, "big")])
