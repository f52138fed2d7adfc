"""Where the values of a batch come from."""

from __future__ import annotations

from collections.abc import Mapping

from .tensor_column import TensorColumn


class Origin:
    """The columns that the values of some batches are copies of.

    A batch holds a pair ``(origin, values)``: whoever knows something about a column can be sure that it is true of
    the batch as long as its value is still the one that was read.

    :param columns: source -> place of its value among those of a batch, and its column
    """

    __slots__ = ("_columns", "answers")

    def __init__(self, columns: Mapping[str, tuple[int, TensorColumn]]) -> None:
        self._columns = {source: (place, column, column.version) for source, (place, column) in columns.items()}
        self.answers: dict[object, int] = {}
        """Notes of whoever asks the same of every batch; they live as long as these batches."""

    def find(self, source: str) -> tuple[int, TensorColumn] | None:
        """Return the place of a source and its column, None if there is none or it has changed since it was read."""
        place, column, version = self._columns.get(source, (0, None, None))
        return None if column is None or version is None or column.version != version else (place, column)
