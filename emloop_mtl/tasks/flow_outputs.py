"""What a flow returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


class FlowOutputs(Mapping[str, Any]):
    """What the actions of a plan returned, by their names; ``_input_`` holds the sources."""

    __slots__ = ("_slots", "_values")

    def __init__(self, slots: Mapping[str, int], values: list[Any]) -> None:
        self._slots = slots
        self._values = values

    def __getitem__(self, name: str) -> Any:
        return self._values[self._slots[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._slots)

    def __len__(self) -> int:
        return len(self._slots)
