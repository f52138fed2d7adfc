"""Columns that lie in files are the columns that they were written from."""

from __future__ import annotations

import logging
import math
import pickle
import tempfile
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emloop_mtl import ColumnDataset, FileColumns, TaskLoader
from emloop_mtl.data.files import csv_table, parquet_table, slow_reading

from .written import write_csv, write_parquet

INTS = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(width=32, allow_subnormal=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
"""All that UTF-8 can say, quotes, commas, line breaks and the like among it."""


@st.composite
def tables(draw: st.DrawFn) -> dict[str, list[Any]]:
    rows = draw(st.integers(1, 9))

    def column(values: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(values, min_size=rows, max_size=rows))

    return {
        "int": column(INTS),
        "float": column(FLOATS | st.none()),
        "text": column(TEXTS),
        "bool": column(st.booleans()),
        "label": column(st.integers(0, 9)),
    }


def in_memory(table: Mapping[str, Sequence[Any]]) -> ColumnDataset:
    columns: dict[str, Any] = {
        name: [math.nan if value is None else value for value in values] for name, values in table.items()
    }
    return ColumnDataset("table", columns, {"label": columns.pop("label")})


def assert_same(batch: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    assert list(batch) == list(other)
    for name, value in other.items():
        if isinstance(value, torch.Tensor):
            assert batch[name].dtype == value.dtype, name
            assert torch.equal(batch[name].nan_to_num(7e7), value.nan_to_num(7e7)), name
        else:
            assert batch[name] == value, name


def check_rows(data: FileColumns, expected: ColumnDataset, order: Sequence[int]) -> None:
    assert len(data) == len(expected)
    assert data.sources == expected.sources
    assert_same(data.__getitems__(order), expected.__getitems__(order))
    assert_same(pickle.loads(pickle.dumps(data)).__getitems__(order), expected.__getitems__(order))  # noqa: S301 - ours
    for row in order[:2]:
        assert_same(
            {
                name: torch.as_tensor(value) if isinstance(value, float | int) else value
                for name, value in data[row].items()
            },
            {
                name: torch.as_tensor(value) if isinstance(value, float | int) else value
                for name, value in expected[row].items()
            },
        )


@given(table=tables(), data=st.data())
@settings(max_examples=25)
def test_columns_of_csv_files_are_those_in_memory(table: dict[str, list[Any]], data: st.DataObject) -> None:
    order = data.draw(st.lists(st.integers(0, len(table["int"]) - 1), max_size=12))
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_table, "ROWS", 2)
        path = write_csv(Path(folder) / "table.csv", table)
        dtypes = {"text": "text", "float": "float32"}  # texts may look like numbers, and floats be missing altogether
        check_rows(FileColumns(path, labels=["label"], dtypes=dtypes), in_memory(table), order)


@given(table=tables(), data=st.data())
@settings(max_examples=25)
def test_columns_of_parquet_files_are_those_in_memory(table: dict[str, list[Any]], data: st.DataObject) -> None:
    rows = len(table["int"])
    order = data.draw(st.lists(st.integers(0, rows - 1), max_size=12))
    sequences = data.draw(st.lists(st.lists(st.integers(-9, 9), max_size=4), min_size=rows, max_size=rows))
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet_table, "ROWS", 2)
        columns = {
            **table,
            "float": pa.array(table["float"], pa.float64()),
            "text": pa.array(table["text"]).dictionary_encode(),
            "words": pa.array(sequences, pa.list_(pa.int64())),
            "pair": pa.array([[row, -row] for row in range(rows)], pa.list_(pa.int32(), 2)),
        }
        expected = in_memory(table)
        expected.add_features({"words": [torch.tensor(each, dtype=torch.int64) for each in sequences]})
        expected.add_features({"pair": torch.tensor([[row, -row] for row in range(rows)], dtype=torch.int32)})
        path = write_parquet(Path(folder) / "table.parquet", columns)
        check_rows(FileColumns(path, ["int", "float", "text", "bool", "words", "pair"], "label"), expected, order)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@given(table=tables(), data=st.data())
@settings(max_examples=15)
def test_arrays_of_archives_are_those_in_memory(
    save: Callable[..., None], table: dict[str, list[Any]], data: st.DataObject
) -> None:
    order = data.draw(st.lists(st.integers(0, len(table["int"]) - 1), max_size=12))
    arrays = {
        "int": np.array(table["int"]),
        "float": np.array([math.nan if value is None else value for value in table["float"]], np.float32),
        "text": np.array([text.rstrip("\0") for text in table["text"]]),  # numpy pads texts with zeros
    }
    label = np.array(table["label"])
    expected = ColumnDataset("table", arrays, {"label": label})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.npz"
        save(path, **arrays, label=label)
        check_rows(FileColumns(path, labels="label"), expected, order)


def test_arrays_of_many_kinds_are_mapped_where_they_lie(tmp_path: Path, temporary: Path) -> None:
    generator = np.random.default_rng(0)
    arrays = {
        "image": generator.integers(0, 255, (7, 2, 3), dtype=np.uint8),
        "turned": np.asfortranarray(generator.random((7, 3), dtype=np.float32)),
        "double": generator.random((7, 2)),
        "half": generator.random(7).astype(np.float16),
        "bytes": np.array([b"a", b"bc"] * 3 + [b""]),
        "complex": generator.random((7, 2)) + 1j,  # which crash a process that reads them where they lie in an archive
        "waves": np.asfortranarray(generator.random((7, 2)) + 1j),
    }
    np.savez(tmp_path / "all.npz", **arrays)
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    apart = FileColumns({name: tmp_path / f"{name}.npy" for name in arrays}, dtypes={"half": "float64"})
    together = FileColumns(tmp_path / "all.npz", dtypes={"half": "float64"})
    expected = {
        **arrays,
        "double": arrays["double"].astype(np.float32),
        "half": arrays["half"].astype(np.float64),
    }
    rows = [6, 0, 3, 3]
    for data in (apart, together):
        assert_same(data.__getitems__(rows), ColumnDataset("memory", expected).__getitems__(rows))
        assert data[5]["waves"].equal(torch.from_numpy(arrays["waves"][5]))
    assert not list(temporary.iterdir())
    assert (apart.name, together.name) == ("image", "all")


def test_the_dtype_of_a_csv_column_is_the_first_that_suits_all_its_cells(tmp_path: Path) -> None:
    cells = {
        "bool": ["true", "False", "TRUE"],
        "int": ["1", " 2", "-3"],
        "float": ["1", "2.5", ""],
        "exponent": ["1e3", "nan", "-inf"],
        "text": ["1", "2", "x"],
        "mixed": ["true", "1", "0"],
        "large": ["1", "2", str(2**63)],
        "grouped": ["1_000", "2", "3"],
        "digit": ["1", "٣", "3"],
        "nothing": ["", "", ""],
        "": ["0", "1", "2"],
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_table, "ROWS", 1)
        batch = FileColumns(write_csv(tmp_path / "a.csv", cells)).__getitems__([0, 1, 2])
    assert_same(
        batch,
        {
            "bool": torch.tensor([True, False, True]),
            "int": torch.tensor([1, 2, -3]),
            "float": torch.tensor([1, 2.5, math.nan]),
            "exponent": torch.tensor([1e3, math.nan, -math.inf]),
            **{name: cells[name] for name in ("text", "mixed", "large", "grouped", "digit", "nothing")},
            "_uids_": torch.arange(3),
        },
    )


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
def test_columns_stand_side_by_side_and_are_read_as_their_settings_say(kind: str, tmp_path: Path) -> None:
    table = {
        "a": [1, 2, 3],
        "b": [0.5, 1.5, None],
        "kind": ["x", "z", "y"],
        "count": [4, None, 6],
        "zip": ["01", "02", "03"],
        "flag": [0, 1, 1],
    }
    path = tmp_path / f"table.{kind}"
    if kind == "parquet":
        write_parquet(path, table)
    else:
        write_csv(path, table, "\t" if kind == "tsv" else ",")
    data = FileColumns(
        path,
        {"both": ["a", "b"], "whole": ["a", "flag"], "code": "zip", "count": "count", "again": "a"},
        {"y": "kind", "on": "flag"},
        uid="code",
        dtypes={"zip": "text", "flag": "bool"},
        missing={"count": -100},
        classes={"kind": ["x", "y", "z"]},
    )
    assert_same(
        data.__getitems__([2, 0, 1]),
        {
            "both": torch.tensor([[3, math.nan], [1, 0.5], [2, 1.5]]),
            "whole": torch.tensor([[3, 1], [1, 0], [2, 1]]),
            "code": ["03", "01", "02"],
            "count": torch.tensor([6, 4, -100]),
            "again": torch.tensor([3, 1, 2]),
            "y": torch.tensor([1, 0, 2]),
            "on": torch.tensor([True, False, True]),
            "_uids_": ["03", "01", "02"],
        },
    )
    assert FileColumns(path, ["a"], dtypes={"a": "float64"}).__getitems__([0])["a"].dtype == torch.float64
    assert FileColumns(path, ["a"], dtypes={"a": "text"}).__getitems__([0])["a"] == ["1"]
    assert FileColumns(path, ["zip"], dtypes={"zip": "int8"}).__getitems__([2])["zip"].tolist() == [3]


def test_sequences_are_cut_and_padded_as_those_in_memory(tmp_path: Path) -> None:
    words = [[1, 2, 3, 4], [], [5]]
    path = write_parquet(tmp_path / "a.parquet", {"words": words})
    memory = ColumnDataset("a", {"words": [torch.tensor(each, dtype=torch.int64) for each in words]}, None, None, 2, 3)
    for rows in ([0, 1], [1, 2], [1]):
        assert_same(FileColumns(path, min_data_len=2, max_data_len=3).__getitems__(rows), memory.__getitems__(rows))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["csv", "parquet", "npz"])
def test_batches_of_a_loader_are_those_in_memory(kind: str, workers: int, tmp_path: Path) -> None:
    table = {"x": [row / 4 for row in range(50)], "label": [row % 3 for row in range(50)]}
    path = tmp_path / f"table.{kind}"
    write = {"csv": write_csv, "parquet": write_parquet, "npz": lambda path, table: np.savez(path, **table)}[kind]
    write(path, table)
    data = FileColumns(path, labels=["label"])
    loaders = [
        TaskLoader(each, {"t": "label"}, name="l", batch_size=8, seed=3, num_workers=number)
        for each, number in ((data, workers), (in_memory(table), 0))
    ]
    assert loaders[0].sources == loaders[1].sources
    for number in (0, 1):
        for batch, other in zip(*(loader.batches(number, start=2) for loader in loaders), strict=True):
            assert_same(batch, other)
            assert batch.tasks == other.tasks


def test_what_is_sent_to_another_process_is_the_place_and_not_the_values(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((9999, 9)), text=np.array(["abc"] * 9999))
    table = {"x": [0.5] * 9999, "text": ["abc"] * 9999, "words": [[1, 2]] * 9999}
    for path in (tmp_path / "a.npz", write_parquet(tmp_path / "a.parquet", table, 5000)):
        assert len(pickle.dumps(FileColumns(path))) < 3000  # some paths and names; the values take 10 times as much


@pytest.mark.parametrize("kind", ["csv", "parquet", "npz"])
def test_memory_does_not_grow_with_the_file(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_table, "ROWS", 128)

    def peak(rows: int) -> int:
        path = tmp_path / f"{rows}.{kind}"
        values = np.arange(rows) / 8
        if kind == "npz":
            np.savez_compressed(path, x=np.stack([values] * 8, axis=1))
        elif kind == "csv":
            write_csv(path, {name: values.tolist() for name in "abcdefgh"})
        else:
            write_parquet(path, dict.fromkeys("abcdefgh", values), 2**13)
        pool = pa.proxy_memory_pool(pa.default_memory_pool())  # counts what is taken of it from now on
        before = pa.default_memory_pool()
        pa.set_memory_pool(pool)
        tracemalloc.start()
        try:
            loader = TaskLoader(FileColumns(path), batch_size=64, n_batches=None)
            for _, _ in zip(loader, range(20), strict=False):
                pass
            return tracemalloc.get_traced_memory()[1] + pool.max_memory()
        finally:
            tracemalloc.stop()
            pa.set_memory_pool(before)

    few, many = (2**10, 2**12) if kind == "csv" else (2**16, 2**18)
    small, large = peak(few), peak(many)
    # Of 32 bytes and more per row: what the order of the rows takes while it is made, and what allocators do.
    assert large - small < 8 * (many - few)


def test_a_file_is_decoded_once_and_again_when_it_has_changed(
    tmp_path: Path, temporary: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "emloop_mtl")
    monkeypatch.setattr(slow_reading, "PATIENCE", -1.0)
    path = write_csv(tmp_path / "a.csv", {"x": [1, 2]})
    first = FileColumns(path)
    assert FileColumns(path).__getitems__([1])["x"].tolist() == [2]
    assert [record.message.split(": ")[1][:16] for record in caplog.records] == ["is decoded, once"]
    write_csv(path, {"x": [3, 4, 5]})
    second = FileColumns(path)
    assert len(caplog.records) == 2
    assert second.__getitems__([2])["x"].tolist() == [5]
    assert first.__getitems__([1])["x"].tolist() == [2]  # what is mapped stays there
    assert first.fingerprint != second.fingerprint
    assert len([copy for copy in temporary.glob("*/*") if copy.is_dir()]) == 1
    path.unlink()
    FileColumns(write_csv(tmp_path / "b.csv", {"x": [1]}))
    assert len([copy for copy in temporary.glob("*/*") if copy.is_dir()]) == 1


def test_other_settings_are_another_copy(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", {"x": [1, 2], "y": [3, 4]})
    assert FileColumns(path, ["x"]).__getitems__([0])["x"].tolist() == [1]
    assert FileColumns(path, {"x": "y"}).__getitems__([0])["x"].tolist() == [3]
    assert FileColumns(path, ["x"], dtypes={"x": "text"}).__getitems__([0])["x"] == ["1"]


def test_those_who_want_the_same_at_the_same_time_get_it(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", {"x": list(range(20_000))})
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: FileColumns(path), range(4)))
    assert all(data.__getitems__([19_999])["x"].tolist() == [19_999] for data in found)


def test_a_copy_that_was_not_finished_is_made_again(tmp_path: Path, temporary: Path) -> None:
    path = write_csv(tmp_path / "a.csv", {"x": [1, 2]})
    FileColumns(path)
    for note in temporary.glob("*/*/columns.json"):
        note.unlink()
    assert FileColumns(path).__getitems__([0])["x"].tolist() == [1]


def test_the_sum_of_a_file_tells_parts_and_sizes_apart(tmp_path: Path) -> None:
    path, sums = tmp_path / "a.npy", set()
    values = np.arange(100_000)
    for change in (0, 99_999, 0):
        values[change] += 1
        np.save(path, values)
        sums.add(FileColumns({"x": path}).fingerprint)
    assert len(sums) == 3
    np.save(tmp_path / "b.npy", values)
    assert FileColumns({"x": tmp_path / "b.npy"}).fingerprint in sums  # wherever it lies and whenever it was written
