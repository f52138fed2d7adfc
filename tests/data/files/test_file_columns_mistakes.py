"""What is said of files, settings and values that do not suit, and of a disk that has no room for a copy."""

from __future__ import annotations

import io
import math
import os
import resource
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from emloop_mtl import ConfigError, DataError, FileColumns

from .written import write_csv, write_parquet


def raw(text: str | bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(text.encode() if isinstance(text, str) else text) and None


def table_of(**columns: Any) -> Callable[[Path], None]:
    return lambda path: write_parquet(path, columns) and None


def twins(path: Path) -> None:
    pq.write_table(pa.table([[1], [2]], names=["x", "x"]), path)


def archive_of(**arrays: Any) -> Callable[[Path], None]:
    return lambda path: np.savez(path, **arrays)


def cut(path: Path) -> None:
    np.save(path, np.arange(1000))
    os.truncate(path, 1000)


def objects(path: Path) -> None:
    np.save(path, np.array([{}, []], dtype=object), allow_pickle=True)


def other_archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("read.me", "nothing")


def headed(shape: str, method: int = zipfile.ZIP_STORED) -> Callable[[Path], None]:
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"

    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("x.npy", b"\x93NUMPY\x01\x00\x76\x00" + header.encode() + b"\0" * 8)

    return write


def damaged(path: Path) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=np.arange(1000))
    content = bytearray(buffer.getvalue())
    content[100:140] = b"\xff" * 40
    path.write_bytes(content)


DATA = {
    "empty": ("a.csv", raw(""), "a.csv: is empty; its first line must name the columns"),
    "only a header": ("a.csv", raw("x,y\n"), "a.csv: holds no rows"),
    "no header": ("a.csv", raw("1,2\n3,4\n"), "a.csv:1: the first line must name the columns, and it holds numbers"),
    "two of one name": ("a.csv", raw("x,x\n3,4\n"), "a.csv:1: two columns are named 'x'"),
    "a short row": ("a.csv", raw('x,y\n"1\n2",2\n\n3\n'), "a.csv:5: a row of 1 cells, where the first line names 2"),
    "an open quote": ("a.csv", raw('x,y\n1,2\n3,"4\n5,6\n'), "a.csv:3: unexpected end of data; the delimiter is ','"),
    "a stray quote": ("a.csv", raw('x,y\n1,2\n3,"4"5\n'), "a.csv:3: ',' expected after '\"'"),
    "not UTF-8": ("a.csv", raw(b"x,y\n1,2\n3,\xff\n"), "a.csv: not far behind line 1: byte 0xff is not UTF-8"),
    "no Parquet": ("a.parquet", raw("x,y\n1,2\n"), "a.parquet: cannot be read as Parquet: "),
    "two of one name in Parquet": ("a.parquet", twins, "a.parquet: two columns are named 'x'"),
    "no rows": ("a.parquet", table_of(x=pa.array([], pa.int64())), "a.parquet: holds no rows"),
    "a gap in a list": ("a.parquet", table_of(x=[[1, None]]), "column 'x': a value is missing in a list"),
    "no archive": ("a.npz", raw("x"), "a.npz: is no archive of numpy's"),
    "an archive of other files": ("a.npz", other_archive, "a.npz: holds no array"),
    "a damaged archive": ("a.npz", damaged, "a.npz: array 'x' cannot be unpacked: "),
    "an empty array": ("a.npz", archive_of(x=np.zeros((0, 3))), "a.npz: array 'x' holds no rows"),
    "a single value": ("a.npz", archive_of(x=np.array(3)), "a.npz: array 'x' is a single value"),
    "fewer than none": ("a.npz", headed("(-1,)"), "array 'x': is not as numpy.save writes it: its shape is (-1,)"),
    "no count": ("a.npz", headed("(True,)", zipfile.ZIP_DEFLATED), "its shape is (True,)"),
    "less than it says": ("a.npz", headed("(9000,)", zipfile.ZIP_DEFLATED), "ends before the last of the values"),
    "packed otherwise": ("a.npz", headed("(1,)", zipfile.ZIP_BZIP2), "compressed in another way than numpy.savez_co"),
    "lengths that differ": ("a.npz", archive_of(x=np.zeros(3), y=np.zeros(4)), "'x' has 3 rows, 'y' has 4"),
    "another byte order": ("a.npz", archive_of(x=np.zeros(3, ">i4")), "'x' is of dtype >i4; save numbers or texts, in"),
    "dates": ("a.npz", archive_of(x=np.zeros(3, "M8[s]")), "'x' is of dtype datetime64[s]; save numbers or texts"),
    "several texts": ("a.npz", archive_of(x=np.array([["a", "b"]])), "'x' holds several texts per row"),
}


@pytest.mark.parametrize("case", DATA)
def test_a_file_that_cannot_be_read_is_told_in_one_line(
    case: str, tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name, write, text = DATA[case]
    write(Path(name))
    with pytest.raises(DataError) as caught:
        FileColumns(name)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not [copy for copy in temporary.glob("*/*") if copy.is_dir()]


def test_an_array_that_there_is_no_room_for_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros(1_000_000))
    assert (tmp_path / "a.npz").stat().st_size < 10_000
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=7_000_000))
    with pytest.raises(DataError, match="array 'x' unpacks to 8.0 MB, but .* has 7.0 MB free; TMPDIR in the environm"):
        FileColumns(tmp_path / "a.npz")


@pytest.mark.parametrize(("values", "dtype", "odd"), [([300, 2], "int8", 300), ([1.5, 2], "int64", 1.5)])
def test_a_value_of_an_array_that_is_none_of_its_dtype_is_refused(
    values: list[float], dtype: str, odd: float, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", np.array(values))
    data = FileColumns({"x": tmp_path / "x.npy"}, dtypes={"x": dtype})
    assert data.__getitems__([1])["x"].tolist() == [2]
    for read in (lambda: data.__getitems__([1, 0]), lambda: data[0]):
        with pytest.raises(DataError, match=f"source 'x': {odd} is not of dtype {dtype}, which dtypes says"):
            read()


@pytest.mark.parametrize(("write", "text"), [(cut, "ends before the last"), (objects, "only unpickling reads; save")])
def test_an_array_that_cannot_be_read_is_told_in_one_line(
    write: Callable[[Path], None], text: str, tmp_path: Path
) -> None:
    write(tmp_path / "x.npy")
    with pytest.raises(DataError, match=text):
        FileColumns({"x": tmp_path / "x.npy"})


CSV = "x,y,t\n1,2.5,a\n3,,b\n4,5,\n"


SETTINGS: dict[str, tuple[dict[str, Any], tuple[str | int, ...], str]] = {
    "an unknown feature": ({"features": ["x", "z"]}, ("features", 1), "the file has no column 'z'; known are: t, x, y"),
    "an unknown part": ({"features": {"a": ["x", "yy"]}}, ("features", "a", 1), "column 'yy'; did you mean 'y'?"),
    "an unknown label": ({"labels": {"a": "xy"}}, ("labels", "a"), "the file has no column 'xy'"),
    "twice": ({"features": ["x", "x"]}, ("features", 1), "column 'x' stands here twice"),
    "a gap": ({"dtypes": {"y": "int64"}}, ("missing", "y"), "a.csv:3: column 'y' has no value here; set missing"),
    "not its class": ({"classes": {"t": ["a", "b"]}}, ("missing", "t"), "a.csv:4: column 't' has no value here"),
    "no dtype": ({"dtypes": {"x": "int63"}}, ("dtypes", "x"), "'int63' is no dtype of a column; did you mean 'int64'"),
    "of nothing": ({"dtypes": {"z": "int64"}}, ("dtypes", "z"), "the file has no column 'z'"),
    "not read": ({"features": ["y"], "missing": {"x": 0}}, ("missing", "x"), "column 'x' is not read; add it to"),
    "a mark": ({"missing": {"x": [0]}}, ("missing", "x"), "a number or a text is needed"),
    "one class": ({"classes": {"t": "ab"}}, ("classes", "t"), "a list of the classes is needed"),
    "a class twice": ({"classes": {"t": ["a", "a"]}}, ("classes", "t"), "a class stands here twice"),
    "texts side by side": ({"features": {"z": ["x", "t"]}}, ("features", "z", 1), "column 't' holds texts"),
    "no column": ({"features": {"z": []}}, ("features", "z"), "a column, or a list of columns, is needed"),
    "no features": ({"features": []}, (), "has no features"),
    "no uid": ({"uid": "z"}, ("uid",), "no feature 'z' to serve as uid"),
    "another class": (
        {"classes": {"t": ["a"]}, "missing": {"t": -1}},
        ("classes", "t"),
        "a.csv:3: column 't': 'b' is not one of the classes",
    ),
    "no mark": (
        {"dtypes": {"y": "float32"}, "missing": {"y": "x"}},
        ("missing", "y"),
        "column 'y': 'x' is not of dtype",
    ),
    "texts of labels": ({"labels": {"z": ["x", "t"]}}, ("labels", "z", 1), "column 't' holds texts; only columns of n"),
    "a number for columns": ({"features": 5}, ("features",), "a list, or a mapping of sources to columns, not 5"),
    "a number for labels": ({"labels": 5}, ("labels",), "labels: columns are a list, or a mapping of sources"),
    "a list of dtypes": ({"dtypes": ["int64"]}, ("dtypes",), "dtypes is a mapping of columns, not ['int64']"),
    "a number for a delimiter": ({"delimiter": 5}, ("delimiter",), "delimiter is one character, such as ';', not 5"),
    "a negative length": ({"max_data_len": -1}, ("max_data_len",), "max_data_len must be a whole number, 0 or more"),
    "a delimiter": ({"delimiter": "--"}, ("delimiter",), "delimiter is one character, such as ';', not '--'"),
    "lengths": ({"min_data_len": 3, "max_data_len": 2}, ("min_data_len",), "min_data_len 3 is more than max_data_len"),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_settings_that_do_not_suit_the_file_are_refused(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text(CSV, encoding="utf-8")
    arguments, path, text = SETTINGS[case]
    with pytest.raises(ConfigError) as caught:
        FileColumns("a.csv", **arguments)
    assert text in str(caught.value)
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("path", "place"), [(5, ()), (["a.csv"], ()), ({"x": 5}, ("x",)), ({1: "x.npy"}, (1,))], ids=str
)
def test_what_is_no_file_is_refused(path: Any, place: tuple[Any, ...]) -> None:
    with pytest.raises(ConfigError, match=r"path is a file, or a mapping of names to \.npy files, not ") as caught:
        FileColumns(path)
    assert caught.value.path == ("path", *place)


@pytest.mark.parametrize(
    ("cells", "dtype", "text"),
    [
        (["1", "x"], "int64", "a.csv:3: column 'x': 'x' is not of dtype int64"),
        (["1", "300"], "uint8", "a.csv:3: column 'x': '300' is not of dtype uint8"),
        (["1", "1_0"], "float32", "a.csv:3: column 'x': '1_0' is not of dtype float32"),
        (["true", "no"], "bool", "a.csv:3: column 'x': 'no' is not of dtype bool"),
    ],
)
def test_a_cell_that_is_not_what_it_shall_be_is_named(
    cells: list[str], dtype: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_csv(Path("a.csv"), {"x": cells})
    with pytest.raises(ConfigError, match=text) as caught:
        FileColumns("a.csv", dtypes={"x": dtype})
    assert caught.value.path == ("dtypes", "x")


def test_values_of_parquet_files_that_do_not_suit_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = {
        "int": [1, None],
        "half": [1.0, 1.5],
        "when": pa.array([0, 1], pa.timestamp("ms")),
        "nothing": pa.nulls(2),
        "list": [[1], None],
        "text": ["a", None],
        "bool": [True, None],
    }
    path = write_parquet(Path("a.parquet"), table)
    for arguments, text in {
        "int": ({}, "a.parquet: row 1: column 'int' has no value here; set missing: {int: -100}"),
        "half": ({"dtypes": {"half": "int64"}}, "a.parquet: row 1: column 'half': 1.5 is not of dtype int64"),
        "when": ({}, "column 'when' of a.parquet is of type timestamp[ms]; numbers, bools, texts and lists of numbers"),
        "nothing": ({}, "column 'nothing' of a.parquet has no value in any row; leave it out by features"),
        "list": ({}, "a.parquet: row 1: column 'list' has no list here, which must not be"),
        "text": ({}, "a.parquet: row 1: column 'text' has no value here; set missing: {text: none}, say, to mark it"),
        "bool": ({"missing": {"bool": -100}}, "-100 does not fit column 'bool' of a.parquet, which is of type bool"),
    }.items():
        name, (options, message) = arguments, text
        with pytest.raises((ConfigError, DataError)) as caught:
            FileColumns(path, [name], **options)
        assert message in str(caught.value)
    batch = FileColumns(
        path,
        {"int": "int", "text": "text", "bool": "bool"},
        missing={"int": -1, "text": "?"},
        dtypes={"bool": "float32"},
    ).__getitems__([0, 1])
    assert batch["int"].tolist() == [1, -1]
    assert batch["text"] == ["a", "?"]
    torch.testing.assert_close(batch["bool"], torch.tensor([1, math.nan]), rtol=0, atol=0, equal_nan=True)
    with pytest.raises(ConfigError, match="missing: {bool: -100}, say, to mark it, and classes: {bool: .'False', 'Tr"):
        FileColumns(path, ["bool"])
    marked = FileColumns(path, ["bool"], missing={"bool": -100}, classes={"bool": [False, True]})
    assert marked.__getitems__([0, 1])["bool"].tolist() == [1, -100]


ODD = {
    "struct": [{"a": 1}],
    "binary": [b"x"],
    "decimal": pa.array([1], pa.decimal128(5, 2)),
    "nested": [[[1], [2]]],
    "texts": [["a"]],
}


@pytest.mark.parametrize("name", ODD)
def test_a_type_of_parquet_that_makes_no_source_is_named(name: str, tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", {**ODD, "a.b": [1]})
    with pytest.raises(ConfigError, match=f"column '{name}' of .*a.parquet is of type .*leave it out by features"):
        FileColumns(path, ["a.b", name])
    assert FileColumns(path, ["a.b"]).__getitems__([0])["a.b"].tolist() == [1]


@pytest.mark.parametrize("arguments", [{"missing": {"x": 0}}, {"classes": {"x": ["a"]}}, {"delimiter": ";"}])
def test_settings_without_effect_on_arrays_are_refused(arguments: dict[str, Any], tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros(3), y=np.zeros(3))
    with pytest.raises(ConfigError, match="no effect"):
        FileColumns(tmp_path / "a.npz", **arguments)
    with pytest.raises(ConfigError, match="cannot stand side by side; save them as one of shape"):
        FileColumns(tmp_path / "a.npz", {"z": ["x", "y"]})
    np.save(tmp_path / "x.npy", np.zeros(3, complex))
    with pytest.raises(ConfigError, match="the array is of dtype complex128"):
        FileColumns({"x": tmp_path / "x.npy"}, dtypes={"x": "float32"})


def test_without_pyarrow_the_error_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"x": [1]})
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(
        ConfigError, match=r"a.parquet: Parquet files need pyarrow: pip install 'emloop_mtl\[parquet\]'"
    ):
        FileColumns(path)


def test_a_disk_that_is_full_leaves_no_copy(tmp_path: Path, temporary: Path) -> None:
    path = write_csv(tmp_path / "a.csv", {"x": list(range(9999))})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))  # a file may be no larger, as if there were no room
    try:
        with pytest.raises(
            ConfigError, match="a.csv: cannot be decoded into .*: File too large; the environment variable"
        ):
            FileColumns(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not [copy for copy in temporary.glob("*/*") if copy.is_dir()]


def test_no_place_for_the_copy_is_told_with_what_names_another(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_csv(tmp_path / "a.csv", {"x": [1]})
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    with pytest.raises(ConfigError, match="cannot be decoded into .*; the environment variable TMPDIR names another"):
        FileColumns(path)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    (temporary / f"emloop_mtl-{os.getuid()}").mkdir(mode=0o755)
    with pytest.raises(ConfigError, match="is not a folder that only this user can use"):
        FileColumns(path)
