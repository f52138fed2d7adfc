"""Opening files of columns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import ConfigError
from .csv_table import CsvTable
from .numpy_arrays import NumpyArrays
from .parquet_table import ParquetTable
from .table import Table

ARRAY, ARCHIVE = ".npy", ".npz"

TABLES: Mapping[str, type[Table]] = {
    ".csv": CsvTable,
    ".tsv": CsvTable,
    ".parquet": ParquetTable,
    ".pq": ParquetTable,
}
"""What reads a file that must be decoded, by the end of its name."""


def open_file(files: Path | Mapping[str, Path], delimiter: str | None = None) -> Table | NumpyArrays:
    """Return what reads a file.

    :param files: the file, or name -> ``.npy`` file
    :param delimiter: of the cells of a CSV file
    :raise ConfigError: for a file that is not there or of no known kind, or an option that it does not take
    :raise DataError: for one that is not what its name says
    """
    options: dict[str, Any] = {} if delimiter is None else {"delimiter": delimiter}
    if isinstance(files, Mapping):
        if not files:
            raise ConfigError("a file is needed, or a mapping of names to .npy files")
        for name, path in files.items():
            if path.suffix.lower() != ARRAY:
                raise ConfigError(f"{path} is no {ARRAY} file, as one per column must be", ("path", name))
            _check(path, ("path", name))
        kind: type[Table] | None = None
    else:
        suffix = files.suffix.lower()
        if suffix == ARRAY:
            text = f"{files} has no name for its column; write {{name: {files.name}}} instead of {files.name}"
            raise ConfigError(text, ("path",))
        if suffix != ARCHIVE and suffix not in TABLES:
            ends = ", ".join((*TABLES, ARCHIVE, ARRAY))
            raise ConfigError(f"{files}: the end of the name does not say how to read it; known are: {ends}", ("path",))
        _check(files, ("path",))
        kind = TABLES.get(suffix)
    for option in options:
        if kind is None or option not in kind.options:
            raise ConfigError(f"{option} has no effect on this kind of file; leave it out", (option,))
    if kind is None:
        return NumpyArrays(files)
    assert isinstance(files, Path)
    return kind(files, **options)


def _check(path: Path, place: tuple[str, ...]) -> None:
    try:
        if path.is_file():
            return
        there = path.exists()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}", place) from error
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder, not a file", place)
    raise ConfigError(f"{path}: {'is no file that can be read twice' if there else 'no such file'}", place)
