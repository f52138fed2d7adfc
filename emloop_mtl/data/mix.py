"""What a mixed batch is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .mixed_part import MixedPart


class Mix:
    """The loaders whose rows a mixed batch holds.

    :param parts: the loaders in the order of their rows
    :param data_names: task name -> what the data is called in its scores; a task is absent where that is the batch's
        ``data_name``
    """

    __slots__ = ("data_names", "parts")

    def __init__(self, parts: Sequence[MixedPart], data_names: Mapping[str, str]) -> None:
        self.parts = tuple(parts)
        self.data_names = data_names

    def lacking(self, source: str) -> tuple[MixedPart, ...]:
        """Return the parts that hold no values of a source, so that it is filled up there."""
        return tuple(part for part in self.parts if source not in part.sources)

    def data_name_of(self, row: int) -> str:
        """Return the name of the loader that a row is of."""
        return next(part.data_name for part in self.parts if row < part.stop)
