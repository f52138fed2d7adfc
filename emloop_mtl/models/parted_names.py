"""Which names were ever apart."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TypedDict

_NEW = ""
"""Stands for all names that have never come up."""


class _Parting(TypedDict):
    together: list[list[str]]
    new: int | None


class PartedNames:
    """Tells which names were together, all of them or none, in every set of names so far."""

    def __init__(self) -> None:
        self._classes = {_NEW: 0}
        """Name -> number of the names that nothing has parted it from."""

    def part(self, names: Collection[str], others: Iterable[str]) -> bool:
        """Part these names from all others, and return whether that is new.

        :param others: further names that there are
        """
        classes = self._classes
        for name in (*names, *others):
            classes.setdefault(name, classes[_NEW])
        numbers: dict[tuple[int, bool], int] = {}
        parted = {name: numbers.setdefault((number, name in names), len(numbers)) for name, number in classes.items()}
        is_new = len({parted[name] for name in classes if name}) > len({classes[name] for name in classes if name})
        if is_new:
            self._classes = parted
        return is_new

    def class_of(self, name: str) -> int:
        """Return what is equal for names that were never apart."""
        return self._classes.get(name, self._classes[_NEW])

    def state_dict(self, order: Iterable[str]) -> _Parting:
        """Return all that it knows: which names are together, and which of these a new name would be with.

        :param order: the order of names that there are; names of former times come behind
        """
        ordered = dict.fromkeys((*order, *sorted(filter(None, self._classes))))
        together: dict[int, list[str]] = {}
        for name in ordered:
            together.setdefault(self.class_of(name), []).append(name)
        numbers, new = list(together), self._classes[_NEW]
        return {"together": list(together.values()), "new": numbers.index(new) if new in together else None}

    def load_state_dict(self, state: _Parting) -> None:
        """Go on from what ``state_dict`` returned."""
        groups = state["together"]
        classes = {name: number for number, names in enumerate(groups) for name in names}
        self._classes = {**classes, _NEW: len(groups) if state["new"] is None else state["new"]}
