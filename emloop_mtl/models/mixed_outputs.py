"""What the flows of tasks return for a mixed batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .row_set import RowSet


class MixedOutputs(Mapping[str, Any]):
    """What actions returned, each for rows of its own, as some rows of the batch; what nobody looks at costs nothing.

    :param values: action name -> the rows that it was run on, None for all, and what it returned
    :param rows: the rows that are looked at, which all actions have that are looked at; None for all, where the rows
        that an action lacks are zero
    :param size: how many rows the batch has
    """

    def __init__(self, values: Mapping[str, tuple[RowSet | None, Any]], rows: RowSet | None, size: int) -> None:
        self._values = values
        self._rows = rows
        self._size = size
        self._found: dict[str, Any] = {}

    def of(self, rows: RowSet | None) -> MixedOutputs:
        """Return the same for other rows."""
        return MixedOutputs(self._values, rows, self._size)

    def __getitem__(self, name: str) -> Any:
        if name not in self._found:
            own, value = self._values[name]
            self._found[name] = move_rows(value, own, self._rows, self._size)
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def move_rows(value: Any, own: RowSet | None, wanted: RowSet | None, size: int) -> Any:
    """Return what was computed for some rows as what it is for others; those it was not computed for are zero.

    :param own: the rows it was computed for, None for all
    :param wanted: the rows to return, None for all
    :param size: how many rows the batch has
    """
    if own is wanted:
        return value
    if wanted is None:
        assert own is not None
        return own.spread(value, size)
    return wanted.pick(value, size) if own is None else wanted.among(own).pick(value, own.size)
