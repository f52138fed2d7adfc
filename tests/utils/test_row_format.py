"""Rows as JSON lines and CSV, read back by the readers that everybody has."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest

from emloop_mtl.errors import ConfigError
from emloop_mtl.utils.row_format import RowFormat

COLUMNS = ("uid", "value")


def lines(name: str, *rows: tuple[Any, Any]) -> str:
    written = RowFormat(name, COLUMNS)
    return (written.header + written.encode(dict(zip(COLUMNS, row, strict=True)) for row in rows)).decode()


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e-45, 3.4028234663852886e38, -0.0, 2**53 + 1.0, 7, True, None, "a\nb"])
def test_json_lines_give_the_value_back(value: Any) -> None:
    text = lines("jsonl", ("Zürich", value), (3, [value, [value]]))
    first, second = (json.loads(line, parse_constant=refuse) for line in text.split("\n")[:-1])
    assert first == {"uid": "Zürich", "value": value}
    assert second == {"uid": 3, "value": [value, [value]]}
    assert type(first["value"]) is type(value)
    assert "Zürich" in text
    if value == 0:
        assert math.copysign(1, first["value"]) == math.copysign(1, value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_null_in_strict_json(value: float) -> None:
    text = lines("jsonl", (1, value), (2, [0.5, [value], {"a": value}]), (3, 0.25))
    found = [json.loads(line, parse_constant=refuse)["value"] for line in text.splitlines()]
    assert found == [None, [0.5, [None], {"a": None}], 0.25]


@pytest.mark.parametrize("value", [0.1, 1e-45, math.nan, math.inf, -math.inf])
def test_csv_gives_numbers_back_also_those_that_are_not_finite(value: float) -> None:
    ((_, cell),) = list(csv.reader(io.StringIO(lines("csv", (1, value)))))[1:]
    assert float(cell) == value or (math.isnan(value) and math.isnan(float(cell)))


def test_csv_has_headings_empty_cells_quotes_and_lists_as_json() -> None:
    text = lines("csv", ('say "a, b"\n', None), ("x", [0.1, [1, math.nan]]))
    assert text.startswith("uid,value\n")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert rows[0] == {"uid": 'say "a, b"\n', "value": ""}
    assert json.loads(rows[1]["value"]) == [0.1, [1, None]]


def test_names_that_are_no_utf_8_can_be_read_back() -> None:
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    assert json.loads(lines("jsonl", (name, 1)))["uid"] == name


def test_objects_are_written_as_text() -> None:
    assert json.loads(lines("jsonl", (Path("a/b"), 1)))["uid"] == "a/b"


@pytest.mark.parametrize(
    ("file", "name"), [("a.csv", "csv"), ("a.CSV", "csv"), ("a.jsonl", "jsonl"), ("a.ndjson", "jsonl"), ("a", "jsonl")]
)
def test_a_suffix_stands_for_a_format(file: str, name: str) -> None:
    assert RowFormat.of_file(Path(file)) == name


def test_unknown_formats_and_suffixes_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown format 'cvs'; did you mean 'csv'"):
        RowFormat("cvs", COLUMNS)
    with pytest.raises(ConfigError, match=r"a\.txt: the suffix '\.txt' stands for no format; use one of \.csv"):
        RowFormat.of_file(Path("a.txt"))
