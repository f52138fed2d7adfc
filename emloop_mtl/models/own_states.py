"""States of their own that objects have for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple


class _State(NamedTuple):
    owner: Any
    kind: type
    attributes: dict[str, Any]


class OwnStates:
    """Other attributes of objects, which these have while ``worn`` is entered and lose with it.

    The objects stay the same, so whatever holds one of them, a function or a reference, meets its other state.
    """

    def __init__(self) -> None:
        self._states: list[_State] = []
        self._entries: list[tuple[dict[Any, Any], dict[Any, Any]]] = []

    def add(self, owner: Any, attributes: dict[str, Any]) -> None:
        """Add an object.

        :param owner: the object, with attributes in a ``__dict__``
        :param attributes: what it has in the place of all of them
        """
        self._states.append(_State(owner, type(owner), attributes))

    def add_entries(self, of: dict[Any, Any]) -> None:
        """Add a mapping, which has the same entries, and may lose some of them."""
        self._entries.append((of, dict(of)))

    @contextmanager
    def worn(self) -> Iterator[None]:
        """Have the objects in these states; what they change, their class as well, is there again the next time."""
        states, entries = _states_of(self._states), _entries_of(self._entries)
        try:
            _put(self._states, self._entries)
            yield
        finally:
            self._states, self._entries = _states_of(self._states), _entries_of(self._entries)
            _put(states, entries)


def _states_of(states: list[_State]) -> list[_State]:
    return [_State(owner, type(owner), vars(owner)) for owner, *_ in states]


def _entries_of(mappings: list[tuple[dict[Any, Any], dict[Any, Any]]]) -> list[tuple[dict[Any, Any], dict[Any, Any]]]:
    return [(mapping, dict(mapping)) for mapping, _ in mappings]


def _put(states: list[_State], mappings: list[tuple[dict[Any, Any], dict[Any, Any]]]) -> None:
    for owner, kind, attributes in states:
        if type(owner) is not kind:  # a lazy module becomes another one where it runs
            object.__setattr__(owner, "__class__", kind)
        object.__setattr__(owner, "__dict__", attributes)
    for mapping, entries in mappings:
        mapping.clear()
        mapping.update(entries)
