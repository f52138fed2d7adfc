"""Making columns of files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...errors import ConfigError, DataError
from ..column import Column
from ..sequence_lengths import SequenceLengths
from .chosen_columns import Chosen
from .column_settings import TEXT, ColumnSettings, default_float
from .column_writer import ColumnWriter, open_column
from .decoded_files import DecodedFiles
from .mapped_column import MappedColumn
from .mapped_strings import MappedStrings
from .mapped_text_column import MappedTextColumn
from .numpy_arrays import NumpyArrays
from .sequences import Chunk
from .slow_reading import SlowReading
from .table import Table


def map_columns(
    read: Table | NumpyArrays, sources: Chosen, settings: Mapping[str, ColumnSettings], bounds: SequenceLengths
) -> dict[str, Column]:
    """Return the columns of a file, by source; those of a file that must be decoded are decoded into another one.

    :param read: the file
    :param sources: source -> its columns
    :param settings: of every column
    :param bounds: how long the sequences of ragged columns may be in a batch
    :raise ConfigError: for settings that do not fit the file
    :raise DataError: for a file that cannot be read
    """
    if isinstance(read, NumpyArrays):
        return {source: _array(read, source, columns, settings) for source, columns in sources.items()}
    how = {
        "kind": type(read).__name__,
        "options": read.how,
        "sources": sources,
        "settings": {column: [each.dtype, each.missing, each.classes] for column, each in settings.items()},
        "float": default_float(),
    }
    folder, known = DecodedFiles().get(read.path, how, lambda target: _decode(read, sources, settings, target))
    return {
        source: open_column(source, folder / str(number), known[number], bounds)
        for number, source in enumerate(sources)
    }


def _decode(
    table: Table, sources: Chosen, settings: Mapping[str, ColumnSettings], folder: Path
) -> list[dict[str, Any]]:
    writers = [ColumnWriter(folder / str(number)) for number in range(len(sources))]
    try:
        telling = SlowReading(f"{table.path}: is decoded, once, into {folder}")
        chunk: Mapping[str, Chunk] | None = None
        for chunk in table.chunks(settings, telling.tell):
            for writer, (source, columns) in zip(writers, sources.items(), strict=True):
                writer.add(chunk[columns[0]] if len(columns) == 1 else _side_by_side(source, columns, chunk))
        if chunk is None:
            raise DataError(f"{table.path}: holds no rows")
    finally:
        known = [writer.close() for writer in writers]
    return known


def _side_by_side(source: str, columns: Sequence[str], chunk: Mapping[str, Chunk]) -> np.ndarray[Any, Any]:
    parts = []
    for place, column in enumerate(columns):
        values = chunk[column]
        if not isinstance(values, np.ndarray) or values.ndim != 1:
            kind = "texts" if isinstance(values, list) else "lists"
            text = f"column {column!r} holds {kind}; only columns of numbers can stand side by side"
            raise ConfigError(text, ("features", source, place))
        parts.append(values)
    floats = [part.dtype for part in parts if part.dtype.kind == "f"]
    dtype = np.result_type(*(floats or [part.dtype for part in parts]))
    return np.stack([part.astype(dtype) for part in parts], axis=1)


def _array(arrays: NumpyArrays, source: str, columns: Sequence[str], settings: Mapping[str, ColumnSettings]) -> Column:
    if len(columns) > 1:
        text = "arrays of numpy's files cannot stand side by side; save them as one of shape [n, m]"
        raise ConfigError(text, ("features", source))
    [name] = columns
    chosen = settings[name]
    for argument, value in (("missing", chosen.missing), ("classes", chosen.classes)):
        if value is not None:
            raise ConfigError("has no effect on arrays of numpy's files; leave it out", (argument, name))
    unpacked = None
    if arrays.is_packed(name):
        unpacked = _unpacked(arrays, name)
    array = arrays.find(name, unpacked)
    is_text, is_complex = (np.dtype(array.dtype).kind in kinds for kinds in ("US", "c"))
    if chosen.dtype is not None and (is_complex or is_text != (chosen.dtype == TEXT)):
        raise ConfigError(f"the array is of dtype {np.dtype(array.dtype)}", ("dtypes", name))
    if not array.shape[0]:
        raise DataError(f"{arrays.path}: array {name!r} holds no rows")
    if is_text:
        if len(array.shape) > 1:
            raise DataError(f"{arrays.path}: array {name!r} holds several texts per row; save one, or numbers")
        return MappedTextColumn(source, MappedStrings(array))
    dtype = chosen.dtype or (default_float() if np.dtype(array.dtype) == np.float64 else None)
    return MappedColumn(source, array, None if dtype is None else getattr(torch, dtype))


def _unpacked(arrays: NumpyArrays, name: str) -> Path:
    def unpack(folder: Path) -> None:
        text = f"{arrays.path}: array {name!r} is compressed and unpacked, once, into {folder}"
        arrays.unpack(name, folder / file, SlowReading(f"{text}; numpy.savez writes it unpacked").tell)

    file = "array.npy"
    folder, _ = DecodedFiles().get(arrays.path, {"array": name}, unpack)
    return folder / file
