"""Columns: what they may be, and what a batch of them is."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emloop_mtl.data import ColumnDataset, TaskLoader
from emloop_mtl.errors import ConfigError, DataError


def make(**options: Any) -> ColumnDataset:
    return ColumnDataset(
        "d", {"x": torch.arange(12.0).view(4, 3), "text": list("abcd")}, {"y": [3, 2, 1, 0]}, **options
    )


def test_a_batch_is_fetched_at_once() -> None:
    batch = make().__getitems__(torch.tensor([2, 0]))
    assert list(batch) == ["x", "text", "y", "_uids_"]
    assert batch["x"].tolist() == [[6, 7, 8], [0, 1, 2]]
    assert batch["text"] == ["c", "a"]
    assert batch["y"].tolist() == [1, 3]
    assert batch["y"].dtype == torch.int64
    assert batch["_uids_"].tolist() == [2, 0]
    assert make().__getitems__([2, 0])["y"].tolist() == [1, 3]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (torch.tensor([1, 2]), torch.tensor([1, 2])),
        (np.array([1.5, 2.5], dtype=np.float32), torch.tensor([1.5, 2.5])),
        (np.array([1, 2], dtype=">i4"), torch.tensor([1, 2], dtype=torch.int32)),
        (np.array([2.0, 1.0])[::-1], torch.tensor([1.0, 2.0], dtype=torch.float64)),
        (np.broadcast_to(np.float32(3), 2), torch.tensor([3.0, 3.0])),
        ([True, False], torch.tensor([True, False])),
        ([1, 2.5], torch.tensor([1, 2.5])),
        ((1, np.int64(2)), torch.tensor([1, 2])),
        ([torch.tensor(1), torch.tensor(2)], torch.tensor([1, 2])),
        ([np.ones((1, 2)), np.zeros((1, 2))], torch.tensor([[[1.0, 1]], [[0, 0]]], dtype=torch.float64)),
        ([torch.ones(1, 1), torch.zeros(1, 1, dtype=torch.int64)], torch.tensor([[[1.0]], [[0.0]]])),
        (torch.ones(2, requires_grad=True), torch.ones(2)),
    ],
)
def test_columns_of_numbers_become_tensors(column: Any, expected: torch.Tensor) -> None:
    dataset = ColumnDataset("d", {"x": column})
    values = dataset.__getitems__([0, 1])["x"]
    assert values.dtype == expected.dtype
    assert not values.requires_grad
    assert torch.equal(values, expected)
    assert torch.equal(torch.as_tensor(dataset[1]["x"]), expected[1])


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_wide_unsigned_numbers_keep_their_dtype(bits: int) -> None:
    highest = 2**bits - 1
    values = np.array([[1, highest], [2, 3], [4, 5]], dtype=f"uint{bits}")
    dataset = ColumnDataset("d", {"x": values, "columns": values.T.copy().T})
    batch = dataset.__getitems__([2, 0])
    [read] = TaskLoader(dataset, split="valid", batch_size=4)
    assert {value.dtype for source, value in (*batch.items(), *read.items()) if source != "_uids_"} == {
        getattr(torch, f"uint{bits}")
    }
    assert batch["x"].tolist() == batch["columns"].tolist() == [[4, 5], [1, highest]]
    assert read["x"].tolist() == read["columns"].tolist() == [[1, highest], [2, 3], [4, 5]]
    assert dataset[0]["x"].tolist() == [1, highest]


@pytest.mark.parametrize(
    "column",
    [["a", "b"], [None, 1], np.array(["a", "b"]), np.array([{}, None], dtype=object), [[1], [2, 3]], [b"", b"x"]],
)
def test_other_columns_stay_lists(column: Any) -> None:
    values = ColumnDataset("d", {"x": column}).__getitems__(torch.tensor([1, 0]))["x"]
    assert values == [column[1], column[0]]
    assert type(values) is list
    assert not isinstance(values[0], np.str_)


ragged_columns = st.lists(st.lists(st.integers(-3, 3), max_size=5), min_size=1, max_size=8)


@given(ragged_columns, st.data())
def test_ragged_columns_are_padded_to_the_longest_of_the_batch(column: list[list[int]], data: st.DataObject) -> None:
    dataset = ColumnDataset("d", {"x": [torch.tensor(row, dtype=torch.int64) for row in column]})
    rows = data.draw(st.lists(st.integers(0, len(column) - 1), max_size=6))
    batch = dataset.__getitems__(rows)
    width = max((len(column[row]) for row in rows), default=0)
    assert batch["x"].shape == batch["x_mask"].shape == (len(rows), width)
    assert batch["x"].tolist() == [column[row] + [0] * (width - len(column[row])) for row in rows]
    assert batch["x_mask"].tolist() == [[place >= len(column[row]) for place in range(width)] for row in rows]
    assert [dataset[row]["x"].tolist() for row in rows] == [column[row] for row in rows]


def test_zeros_are_no_padding_and_equal_lengths_have_a_mask_too() -> None:
    batch = ColumnDataset("d", {"x": [np.zeros(2), np.zeros(2)]}).__getitems__([0, 1])
    assert batch["x_mask"].tolist() == [[False, False], [False, False]]


def test_batches_and_rows_are_copies() -> None:
    values, ragged = torch.zeros(3, 2), [torch.zeros(2), torch.zeros(1), torch.zeros(0)]
    array = np.zeros(3)
    dataset = ColumnDataset("d", {"x": values, "r": ragged, "a": array})
    for source in (dataset.__getitems__(torch.arange(3)), dataset[0]):
        for name in ("x", "r", "a"):
            source[name] += 1
    again = dataset.__getitems__(torch.arange(3))
    assert not any(again[name].any() for name in ("x", "r", "a"))
    assert not values.any()


def test_memory_mapped_arrays_stay_on_disk(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(20).reshape(10, 2))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    dataset = ColumnDataset("d", {"x": mapped})
    batch = dataset.__getitems__([9, 0])
    assert batch["x"].tolist() == [[18, 19], [0, 1]]
    batch["x"] += 1
    assert dataset[9]["x"].tolist() == [18, 19]
    column = dataset._features["x"]
    assert column._values.data_ptr() == mapped.ctypes.data  # type: ignore[attr-defined]


def test_uids() -> None:
    assert make(uid="text").__getitems__([1, 3])["_uids_"] == ["b", "d"]
    assert make(uid="text")[1]["_uids_"] == "b"
    assert make()[-1]["_uids_"] == 3
    own = ColumnDataset("d", {"x": [1, 2], "_uids_": ["p", "q"]})
    assert own.uid == "_uids_"
    assert own.__getitems__([1])["_uids_"] == ["q"]
    with pytest.raises(ConfigError, match="dataset 'd': no feature 'txt' to serve as uid; did you mean 'text'"):
        make(uid="txt")


def test_names() -> None:
    dataset = ColumnDataset("d", {"x": [1, 2], "r": [torch.ones(1)] * 2}, {"y": [0, 1]})
    assert (dataset.features, dataset.labels) == (["x", "r"], ["y"])
    assert dataset.sources == ["x", "r", "r_mask", "y", "_uids_"]
    assert list(dataset.__getitems__([0])) == dataset.sources


def test_columns_can_be_added_and_removed() -> None:
    dataset = make()
    dataset.add_features({"z": [1, 1, 1, 1]})
    dataset.add_labels({"w": [0.5] * 4})
    dataset.remove_label("y")
    dataset.remove_feature("x")
    assert list(dataset.__getitems__([0])) == ["text", "z", "w", "_uids_"]
    with pytest.raises(ConfigError, match="has no label 'v'; did you mean 'w'|has no label 'v'; known are: w"):
        dataset.remove_label("v")
    with pytest.raises(ConfigError, match="has no feature 'texts'; did you mean 'text'"):
        dataset.remove_feature("texts")
    dataset.remove_feature("z")
    with pytest.raises(ConfigError, match="'text' is the last feature"):
        dataset.remove_feature("text")
    with pytest.raises(ConfigError, match="'text' identifies the rows"):
        make(uid="text").remove_feature("text")


def test_a_refused_column_changes_nothing() -> None:
    dataset = make()
    with pytest.raises(DataError, match="'x' has 4 rows, 'z' has 3"):
        dataset.add_features({"ok": [1] * 4, "z": [1, 2, 3]})
    assert dataset.features == ["x", "text"]


@pytest.mark.parametrize(
    ("features", "labels", "error", "text"),
    [
        ({}, None, ConfigError, "has no features"),
        ({"x": [1]}, {"x": [1]}, ConfigError, "the name 'x' is taken"),
        ({"x": [torch.ones(1)], "x_mask": [1]}, None, ConfigError, "the name 'x_mask' is taken"),
        ({"x": [1]}, {"_uids_": [1]}, ConfigError, "the name '_uids_' is taken"),
        ({"x": [1, 2]}, {"y": [1]}, DataError, "'x' has 2 rows, 'y' has 1"),
        (
            {"x": [torch.ones(1, 2), torch.ones(1, 3)]},
            None,
            DataError,
            r"'x': row 0 has shape \[1, 2\], row 1 has \[1, 3\]",
        ),
        ({"x": [torch.ones(2), torch.ones(2, 2)]}, None, DataError, "only if all of them are 1-d"),
        ({"x": torch.tensor(1)}, None, DataError, "source 'x': a single value"),
        ({"x": "abc"}, None, DataError, "source 'x': a column is a tensor, an array or a list, not of type str"),
        (
            {"x": np.zeros(2, dtype="datetime64[s]")},
            None,
            DataError,
            "source 'x': torch has no equivalent of dtype datetime64",
        ),
        ({"x": [2**70]}, None, DataError, "source 'x': the numbers do not fit in a tensor"),
    ],
)
def test_what_is_refused(features: Any, labels: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        ColumnDataset("d", features, labels)


def test_rows_out_of_range() -> None:
    with pytest.raises(IndexError, match="has no row 4"):
        make()[4]
    assert len([make()[i] for i in range(len(make()))]) == 4


def test_no_rows() -> None:
    dataset = ColumnDataset("d", {"x": torch.zeros(0, 2), "t": []})
    assert len(dataset) == 0
    assert dataset.__getitems__([])["x"].shape == (0, 2)
