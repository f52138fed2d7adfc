"""Making batches of samples."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emloop_mtl import ColumnDataset, TaskLoader
from emloop_mtl.data import collate
from emloop_mtl.errors import ConfigError, DataError


def test_equal_shapes_are_stacked_and_the_rest_stays_a_list() -> None:
    samples = [
        {
            "t": torch.tensor([i, i + 1]),
            "a": np.full((1, 2), i, dtype=np.float32),
            "n": i,
            "f": i / 2,
            "s": str(i),
            "o": [i],
        }
        for i in range(2)
    ]
    batch = collate(samples)
    assert batch["t"].tolist() == [[0, 1], [1, 2]]
    assert batch["a"].tolist() == [[[0, 0]], [[1, 1]]]
    assert batch["n"].dtype == torch.int64
    assert batch["f"].tolist() == [0, 0.5]
    assert batch["s"] == ["0", "1"]
    assert batch["o"] == [[0], [1]]


def test_pairs_of_features_and_labels_are_merged() -> None:
    assert collate([({"x": 1}, {"y": 2}), ({"x": 3}, {"y": 4})])["y"].tolist() == [2, 4]


def test_a_batch_passes_through() -> None:
    value = torch.ones(2)
    assert collate({"x": value})["x"] is value


def test_arrays_of_text_stay_a_list() -> None:
    assert [value.tolist() for value in collate([{"x": np.array(["a"])}])["x"]] == [["a"]]


@given(st.lists(st.lists(st.integers(-3, 3), max_size=4), min_size=1, max_size=6))
def test_ragged_sources_are_padded(rows: list[list[int]]) -> None:
    batch = collate([{"x": torch.tensor(row, dtype=torch.int64)} for row in rows], ragged=["x"])
    width = max(map(len, rows))
    assert batch["x"].tolist() == [row + [0] * (width - len(row)) for row in rows]
    assert batch["x_mask"].tolist() == [[place >= len(row) for place in range(width)] for row in rows]


@given(st.lists(st.lists(st.integers(-3, 3), max_size=4), min_size=1, max_size=6), st.integers(0, 5), st.integers(0, 5))
def test_ragged_sources_are_cut_and_padded_to_lengths_from_samples_and_from_columns(
    rows: list[list[int]], least: int, more: int
) -> None:
    most = least + more if more else 0
    values = [torch.tensor(row, dtype=torch.int64) for row in rows]
    lengths = {"min_data_len": least, "max_data_len": most}
    batch = collate([{"x": value} for value in values], ragged=["x"], **lengths)
    width = max(least, min(max(map(len, rows)), most or 99))
    assert batch["x"].tolist() == [(row + [0] * width)[:width] for row in rows]
    assert batch["x_mask"].tolist() == [[place >= len(row) for place in range(width)] for row in rows]
    columns = ColumnDataset("d", {"x": values}, **lengths)
    read = columns.__getitems__(range(len(rows)))
    assert torch.equal(read["x"], batch["x"])
    assert torch.equal(read["x_mask"], batch["x_mask"])
    assert [columns[row]["x"].tolist() for row in range(len(rows))] == rows


@pytest.mark.parametrize(
    ("lengths", "text"),
    [
        ({"min_data_len": 3, "max_data_len": 2}, "min_data_len 3 is more than max_data_len 2"),
        ({"min_data_len": -1}, "min_data_len must be a whole number, 0 or more, not -1"),
        ({"max_data_len": 1.5}, "max_data_len must be a whole number, 0 or more, not 1.5"),
        ({"max_data_len": True}, "max_data_len must be a whole number, 0 or more, not True"),
    ],
)
def test_lengths_that_are_refused(lengths: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=f"^collate: {text}"):
        collate([{"x": torch.ones(1)}], ["x"], **lengths)
    with pytest.raises(ConfigError, match=f"^dataset 'd': {text}"):
        ColumnDataset("d", {"x": [1]}, **lengths)
    with pytest.raises(ConfigError, match=f"^loader 'list': {text}"):
        TaskLoader([{"x": torch.ones(1)}], batch_size=1, ragged=["x"], **lengths)


def test_lengths_without_sequences_are_refused() -> None:
    samples, columns = [{"x": 1}], ColumnDataset("d", {"x": [torch.ones(1)]})
    with pytest.raises(ConfigError, match="loader 'list': .*there are none; name them in 'ragged'"):
        TaskLoader(samples, batch_size=1, max_data_len=2)
    with pytest.raises(ConfigError, match="loader 'd': .*; give them to the ColumnDataset"):
        TaskLoader(columns, batch_size=1, max_data_len=2)
    with pytest.raises(ConfigError, match="loader 'list': .*; leave them out beside a collate function"):
        TaskLoader(samples, batch_size=1, max_data_len=2, collate=lambda rows: {})


@pytest.mark.parametrize(
    ("samples", "ragged", "error", "text"),
    [
        ([{"x": torch.ones(1)}, {"x": torch.ones(2)}], (), DataError, "source 'x'.*'ragged' setting"),
        ([{"x": torch.ones(1, 1)}], ["x"], DataError, "source 'x': ragged sources are 1-d"),
        ([{"x": "a"}], ["x"], DataError, "source 'x': ragged sources are tensors"),
        ([{"x": torch.ones(1), "x_mask": 1}], ["x"], DataError, "'x_mask' clashes"),
        ([{"x": 1}], ["y"], ConfigError, "ragged: no source 'y'"),
        ([{"x": 1}, {"y": 1}], (), DataError, "source 'x' is in some samples"),
        ([({"x": 1}, {"x": 1})], (), DataError, "'x' is both a feature and a label"),
        ([(torch.ones(1), 1)], (), DataError, "sample 0 is of type tuple"),
    ],
)
def test_what_is_refused(samples: Any, ragged: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        collate(samples, ragged)
