"""Writing columns so that they can be mapped."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..column import Column
from ..sequence_lengths import SequenceLengths
from .mapped_array import MappedArray
from .mapped_column import MappedColumn
from .mapped_ragged_column import MappedRaggedColumn
from .mapped_text import MappedText
from .mapped_text_column import MappedTextColumn
from .sequences import Chunk, Sequences

DENSE, RAGGED, TEXT = "dense", "ragged", "text"


class ColumnWriter:
    """Writes a column row by row into files that can be mapped.

    :param stem: their path without the end of the name
    """

    def __init__(self, stem: Path) -> None:
        self._stem = stem
        self._files: dict[str, BinaryIO] = {}
        self._kind = DENSE
        self._dtype = ""
        self._shape: tuple[int, ...] = ()
        self._rows = 0
        self._values = 0

    def add(self, chunk: Chunk) -> None:
        """Write some rows."""
        if isinstance(chunk, np.ndarray):
            self._describe(DENSE, chunk)
            self._rows += len(chunk)
            self._write("values", chunk)
            return
        if isinstance(chunk, Sequences):
            self._describe(RAGGED, chunk.values)
            values, lengths = chunk.values, chunk.lengths.astype(np.int64)
        else:
            texts = [text.encode() for text in chunk]
            values = np.frombuffer(b"".join(texts), np.uint8)
            lengths = np.fromiter(map(len, texts), np.int64, len(texts))
            self._describe(TEXT, values)
        self._write("values", values)
        self._write("starts", self._values + lengths.cumsum() - lengths)
        self._write("lengths", lengths)
        self._rows += len(lengths)
        self._values += len(values)

    def close(self) -> dict[str, Any]:
        """Close the files and return what ``open_column`` must know of them."""
        if self._kind == RAGGED:  # behind all values stands what sequences are padded with
            self._write("values", np.zeros(1, self._dtype))
            self._values += 1
        for file in self._files.values():
            file.close()
        size = self._rows if self._kind == DENSE else self._values
        return {"kind": self._kind, "dtype": self._dtype, "shape": [size, *self._shape], "rows": self._rows}

    def _describe(self, kind: str, values: np.ndarray[Any, Any]) -> None:
        self._kind, self._dtype, self._shape = kind, values.dtype.str, values.shape[1:]

    def _write(self, part: str, values: np.ndarray[Any, Any]) -> None:
        if part not in self._files:
            self._files[part] = _part(self._stem, part).open("wb")
        self._files[part].write(np.ascontiguousarray(values).data)


def open_column(name: str, stem: Path, known: dict[str, Any], bounds: SequenceLengths) -> Column:
    """Return a column that was written.

    :param name: name of the source
    :param stem: the path of its files without the end of the name
    :param known: what ``ColumnWriter.close`` returned
    :param bounds: how long the sequences of a ragged column may be in a batch
    """
    values = MappedArray(str(_part(stem, "values")), known["dtype"], tuple(known["shape"]))
    if known["kind"] == DENSE:
        return MappedColumn(name, values)
    starts, lengths = (MappedArray(str(_part(stem, part)), "<i8", (known["rows"],)) for part in ("starts", "lengths"))
    if known["kind"] == RAGGED:
        return MappedRaggedColumn(name, values, starts, lengths, bounds)
    return MappedTextColumn(name, MappedText(values, starts, lengths))


def _part(stem: Path, part: str) -> Path:
    return stem.with_name(f"{stem.name}.{part}")
