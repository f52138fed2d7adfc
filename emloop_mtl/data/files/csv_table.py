"""Text files of cells."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from sys import maxsize
from typing import Any

from ...errors import ConfigError, DataError
from .cells import find_dtype, make_values
from .column_settings import TEXT, ColumnSettings
from .sequences import Chunk
from .table import Table

ROWS = 4096
"""How many rows are in memory at a time."""


class CsvTable(Table):
    """A CSV file: UTF-8, with the names of the columns in its first line.

    It follows the rules of Python's ``csv`` module for cells in quotes, which may hold line breaks. Blank lines are
    left out, and so are columns without a name.

    :param delimiter: what stands between two cells; a tab by default where the file's name ends in ``.tsv``
    """

    options = ("delimiter",)

    def __init__(self, path: Path, delimiter: str | None = None) -> None:
        if delimiter is not None and (not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '"\r\n'):
            raise ConfigError(f"delimiter is one character, such as ';', not {delimiter!r}", ("delimiter",))
        self._delimiter = delimiter or ("\t" if path.suffix.lower() == ".tsv" else ",")
        super().__init__(path, delimiter=self._delimiter)
        first = next(self._numbered(), None)
        if first is None:
            raise DataError(f"{path}: is empty; its first line must name the columns")
        self._header = first[1]
        if all(_is_number(cell) for cell in self._header):
            raise DataError(f"{path}:{first[0]}: the first line must name the columns, and it holds numbers")
        for index, name in enumerate(self._header):
            if name and name in self._header[:index]:
                raise DataError(f"{path}:{first[0]}: two columns are named {name!r}")

    @property
    def names(self) -> list[str]:
        return [name for name in self._header if name]

    def chunks(self, wanted: Mapping[str, ColumnSettings], tell: Callable[[], object]) -> Iterator[dict[str, Chunk]]:
        dtypes = self._dtypes(wanted, tell)
        places = {column: self._header.index(column) for column in wanted}
        first = 0
        for rows in self._rows(tell):
            where = partial(self._place, first)
            yield {
                column: make_values([row[place] for row in rows], dtypes[column], wanted[column], column, where)
                for column, place in places.items()
            }
            first += len(rows)

    def _dtypes(self, wanted: Mapping[str, ColumnSettings], tell: Callable[[], object]) -> dict[str, str]:
        """Return the dtype of each column, for those that have none from their settings by all of their cells."""
        known = {
            column: settings.dtype or ("int64" if settings.classes is not None else None)
            for column, settings in wanted.items()
        }
        sought = {column: self._header.index(column) for column, dtype in known.items() if dtype is None}
        if sought:
            for rows in self._rows(tell):
                for column, place in sought.items():
                    if known[column] != TEXT:
                        known[column] = find_dtype([row[place] for row in rows if row[place]], known[column])
        return {column: dtype or TEXT for column, dtype in known.items()}

    def _rows(self, tell: Callable[[], object]) -> Iterator[list[list[str]]]:
        """Yield the rows below the header, some at a time; where they stand is looked up when it is asked for."""
        width = {len(self._header)}
        with self._opened() as reader:
            next(row for row in reader if row)
            while some := list(islice(reader, ROWS)):
                tell()
                rows = [row for row in some if row]
                if set(map(len, rows)) - width:
                    self._check()
                if rows:
                    yield rows

    def _check(self) -> None:
        """Refuse a row that has not as many cells as there are columns."""
        width = len(self._header)
        for line, row in self._numbered():
            if len(row) != width:
                text = f"a row of {len(row)} cells, where the first line names {width} columns"
                raise DataError(f"{self.path}:{line}: {text}; the delimiter is {self._delimiter!r}")

    def _place(self, first: int, index: int) -> str:
        """Return where a row stands, counted from the row ``first``."""
        line, _ = next(islice(self._numbered(), 1 + first + index, None))
        return f"{self.path}:{line}"

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        limit = csv.field_size_limit(maxsize)  # a text is as long as it is
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                yield csv.reader(file, delimiter=self._delimiter, strict=True)
        except (csv.Error, UnicodeDecodeError):
            for _ in self._numbered():  # which comes upon it as well
                pass
            raise
        finally:
            csv.field_size_limit(limit)

    def _numbered(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the rows that are not blank with the lines that they begin in.

        :raise DataError: where the file breaks the rules, with the line
        """
        line = 1
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                reader = csv.reader(file, delimiter=self._delimiter, strict=True)
                for row in reader:
                    if row:
                        yield line, row
                    line = reader.line_num + 1
        except UnicodeDecodeError as error:
            text = f"byte 0x{error.object[error.start]:02x} is not UTF-8"
            raise DataError(f"{self.path}: not far behind line {line}: {text}") from error
        except csv.Error as error:
            raise DataError(f"{self.path}:{line}: {error}; the delimiter is {self._delimiter!r}") from error


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
