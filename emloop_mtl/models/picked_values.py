"""What an action gets of a mixed batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

from ..data.batch import Batch
from ..errors import DataError
from .mixed_outputs import move_rows
from .row_set import RowSet


class PickedValues(Sequence[Any]):
    """The values of a run by their slots, as they are for some rows; what nobody looks at costs nothing.

    :param values: the batch, its sources, and what the actions before returned
    :param made_for: slot of an action -> the rows that it was run on, None for all
    :param rows: the rows to look at, None for all
    :param sources: the names of the sources
    :param batch: the batch
    :param reader: the action that looks, for messages
    """

    def __init__(
        self,
        values: Sequence[Any],
        made_for: Mapping[int, RowSet | None],
        rows: RowSet | None,
        sources: Sequence[str],
        batch: Batch,
        reader: str,
    ) -> None:
        self._values = values
        self._made_for = made_for
        self._rows = rows
        self._sources = sources
        self._batch = batch
        self._reader = reader

    @overload
    def __getitem__(self, slot: int) -> Any: ...
    @overload
    def __getitem__(self, slot: slice) -> Sequence[Any]: ...
    def __getitem__(self, slot: int | slice) -> Any:
        if isinstance(slot, slice):
            return [self[place] for place in range(len(self))[slot]]
        size = self._batch.count() or 0
        if slot == 0:
            held = [name for name in self._batch if not self._lacks(name)]
            return {name: self._pick_source(self._batch[name], size) for name in held}
        if slot <= len(self._sources):
            source = self._sources[slot - 1]
            loader = self._lacks(source)
            if loader:
                text = f"action {self._reader!r} reads source {source!r}, which loader {loader!r} does not hold"
                raise DataError(f"{text}, though rows of it in a mixed batch are of its tasks")
            return self._pick_source(self._values[slot], size)
        return move_rows(self._values[slot], self._made_for[slot], self._rows, size)

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[Any]:
        return (self[slot] for slot in range(len(self)))

    def _pick_source(self, value: Any, size: int) -> Any:
        return value if self._rows is None else self._rows.pick_source(value, size)

    def _lacks(self, source: str) -> str:
        """Return the name of a loader that does not hold a source, though it has some of the rows; empty for none."""
        mix = self._batch.mix
        for part in () if mix is None else mix.lacking(source):
            if self._rows is None or self._rows.meets(part.first, part.stop):
                return part.data_name
        return ""
