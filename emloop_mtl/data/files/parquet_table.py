"""Parquet files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ConfigError, DataError
from .cells import make_values, no_value
from .column_settings import TEXT, ColumnSettings, default_float
from .sequences import Chunk, Sequences
from .table import Table

ROWS = 16384
"""How many rows are decoded at a time."""


class ParquetTable(Table):
    """A Parquet file, whose row groups are read one after another; needs pyarrow.

    :raise ConfigError: without pyarrow
    :raise DataError: for a file that is none of Parquet
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            import pyarrow.parquet  # noqa: F401 - here: takes time, and most runs read no such file
        except ImportError as error:
            raise ConfigError(f"{path}: Parquet files need pyarrow: pip install 'emloop_mtl[parquet]'") from error
        with self._opened() as file:
            self._schema = file.schema_arrow
        names = self.names
        if len(set(names)) < len(names):
            raise DataError(f"{path}: two columns are named {next(name for name in names if names.count(name) > 1)!r}")

    @property
    def names(self) -> list[str]:
        return list(self._schema.names)

    def chunks(self, wanted: Mapping[str, ColumnSettings], tell: Callable[[], object]) -> Iterator[dict[str, Chunk]]:
        row = 0
        with self._opened() as file:
            for batch in file.iter_batches(ROWS, columns=list(wanted), use_threads=False):
                tell()
                if batch.num_rows:
                    yield {
                        column: self._values(batch.column(column), settings, column, row)
                        for column, settings in wanted.items()
                    }
                row += batch.num_rows

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile

        try:
            with ParquetFile(self.path, pre_buffer=False) as file:
                yield file
        except (ArrowException, OSError) as error:
            raise DataError(f"{self.path}: cannot be read as Parquet: {' '.join(str(error).split())}") from error

    def _values(self, array: Any, settings: ColumnSettings, column: str, row: int) -> Chunk:
        """Return some rows of a column.

        :param row: number of the first of them
        """
        from pyarrow import types

        if types.is_dictionary(array.type):
            array = array.dictionary_decode()
        kind = array.type
        if types.is_null(kind):
            raise ConfigError(f"column {column!r} of {self.path} has no value in any row; leave it out by features")
        if types.is_string(kind) or types.is_large_string(kind) or settings.classes is not None:
            return self._from_text(array, settings, column, row)
        if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
            return self._from_lists(array, settings, column, row)
        values = self._numbers(array, settings, column, row)
        return list(map(str, values.tolist())) if settings.dtype == TEXT else values

    def _from_text(self, array: Any, settings: ColumnSettings, column: str, row: int) -> Chunk:
        if array.null_count and settings.missing is None and (settings.dtype or TEXT) == TEXT:
            raise self._no_value(array, column, row, None if settings.classes is not None else TEXT)
        dtype = settings.dtype or (TEXT if settings.classes is None else "int64")
        cells = ["" if value is None else str(value) for value in array.to_pylist()]
        if settings.missing is not None and dtype == TEXT:
            cells = [str(settings.missing) if value is None else value for value in array.to_pylist()]
            settings = ColumnSettings(TEXT)
        return make_values(cells, dtype, settings, column, lambda number: f"{self.path}: row {row + number}")

    def _from_lists(self, array: Any, settings: ColumnSettings, column: str, row: int) -> Chunk:
        from pyarrow import compute, types

        if array.null_count:
            place = f"{self.path}: row {row + _first_null(array)}"
            raise DataError(f"{place}: column {column!r} has no list here, which must not be; an empty one may be")
        lengths, shape = None, [len(array)]
        if not types.is_fixed_size_list(array.type):
            lengths = compute.list_value_length(array).to_numpy(zero_copy_only=False)
            array, shape = array.flatten(), [-1]
        while types.is_fixed_size_list(array.type):
            if lengths is not None or array.null_count:
                break
            shape.append(array.type.list_size)
            array = array.flatten()
        if settings.dtype == TEXT or settings.missing is not None:
            which = "dtypes" if settings.dtype == TEXT else "missing"
            raise ConfigError(f"column {column!r} of {self.path} holds lists of numbers", (which, column))
        values = self._numbers(array, settings, column, None if lengths is not None or len(shape) > 1 else row)
        return values.reshape(shape) if lengths is None else Sequences(values, lengths)

    def _numbers(self, array: Any, settings: ColumnSettings, column: str, row: int | None) -> np.ndarray[Any, Any]:
        """Return numbers as an array of the dtype that they shall have.

        :param row: number of the first row; None for values in lists
        """
        from pyarrow import types

        kind = array.type
        floating = types.is_floating(kind)
        if not (floating or types.is_integer(kind) or types.is_boolean(kind)):
            text = f"column {column!r} of {self.path} is of type {kind}; numbers, bools, texts and lists of numbers"
            raise ConfigError(f"{text} can be read: write it as one of these, or leave it out by features")
        wanted = settings.dtype
        nan_stays = settings.missing is None and (wanted or ("float" if floating else "int")).startswith("float")
        if array.null_count and not nan_stays:
            if settings.missing is None:
                raise self._no_value(array, column, row, "bool" if types.is_boolean(kind) else str(kind))
            array = self._filled(array, settings, column)
        values: np.ndarray[Any, Any] = array.to_numpy(zero_copy_only=False)
        if values.dtype == object:  # bools, some of them missing
            values = np.array([np.nan if value is None else value for value in values.tolist()], float)
        if wanted == TEXT:
            return values
        if wanted is None:
            return values.astype(default_float()) if values.dtype == np.float64 else values
        with np.errstate(invalid="ignore", over="ignore"):
            made = values.astype(wanted)
        if not wanted.startswith("float") and not np.array_equal(made, values):
            at = int(np.flatnonzero(made != values)[0])
            place = f"{self.path}: " + ("" if row is None else f"row {row + at}: ")
            raise ConfigError(f"{place}column {column!r}: {values[at]} is not of dtype {wanted}", ("dtypes", column))
        return made

    def _filled(self, array: Any, settings: ColumnSettings, column: str) -> Any:
        from pyarrow import ArrowException, scalar, types

        try:
            if types.is_boolean(array.type) is not isinstance(settings.missing, bool):
                raise ArrowException  # what arrow makes of that is another value
            return array.fill_null(scalar(settings.missing).cast(array.type))
        except ArrowException as error:
            text = f"{settings.missing!r} does not fit column {column!r} of {self.path}, which is of type {array.type}"
            raise ConfigError(text, ("missing", column)) from error

    def _no_value(self, array: Any, column: str, row: int | None, dtype: str | None) -> ConfigError | DataError:
        if row is None:
            return DataError(f"{self.path}: column {column!r}: a value is missing in a list, which must not be")
        return no_value(column, f"{self.path}: row {row + _first_null(array)}", dtype)


def _first_null(array: Any) -> int:
    return int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0])
