"""Rows of plain values as text files."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from ..errors import ConfigError, nearest

Format: TypeAlias = Literal["jsonl", "csv"]

FORMATS: tuple[Format, ...] = get_args(Format)

ENCODER = json.JSONEncoder(allow_nan=False, ensure_ascii=False, default=str)
"""Made once, since that takes as long as encoding a short row."""

SUFFIXES = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"}
"""The formats that a file's name stands for."""


class RowFormat:
    """How rows are written: ``jsonl``, an object per line, or ``csv``, with a line of headings.

    JSON is strict: numbers that are not finite become null. CSV keeps them as ``nan``, ``inf`` and ``-inf``, leaves a
    cell empty for None, and holds lists as JSON. Floats are written so that reading them gives the same number.

    :param name: ``jsonl`` or ``csv``
    :param columns: the keys of every row, in order
    :raise ConfigError: for another name
    """

    def __init__(self, name: str, columns: Sequence[str]) -> None:
        if name not in FORMATS:
            raise ConfigError(f"unknown format {name!r}{nearest(str(name), FORMATS)}", ("format",))
        self.name = name
        self._columns = columns

    @staticmethod
    def of_file(path: Path) -> str:
        """Return the name of the format that the suffix of a file stands for; ``jsonl`` if it has none.

        :raise ConfigError: if it stands for none
        """
        suffix = path.suffix.lower()
        if suffix and suffix not in SUFFIXES:
            text = f"{path}: the suffix {path.suffix!r} stands for no format; use one of {', '.join(SUFFIXES)}"
            raise ConfigError(f"{text}, or set the format to one of {', '.join(FORMATS)}", ("format",))
        return SUFFIXES.get(suffix, FORMATS[0])

    @property
    def header(self) -> bytes:
        """What a file begins with."""
        return _csv_lines([self._columns]) if self.name == "csv" else b""

    def encode(self, rows: Iterable[Mapping[str, Any]]) -> bytes:
        """Return the lines of some rows."""
        if self.name == "csv":
            return _csv_lines([_cell(row[column]) for column in self._columns] for row in rows)
        return _bytes("".join(f"{_json({column: row[column] for column in self._columns})}\n" for row in rows))


def _csv_lines(rows: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return _bytes(text.getvalue())


def _cell(value: Any) -> Any:
    return _json(value) if isinstance(value, list | tuple | dict) else value


def _json(value: Any) -> str:
    try:
        return ENCODER.encode(value)
    except ValueError:
        return ENCODER.encode(_finite(value))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _bytes(text: str) -> bytes:
    # File names that are no UTF-8 come as lone surrogates; as \udc80 they are valid JSON and can be read back.
    return text.encode("utf-8", "backslashreplace")
