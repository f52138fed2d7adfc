"""States of their own that objects have for a while."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple


class _State(NamedTuple):
    owner: Any
    kind: type
    attributes: dict[str, Any]

    def present(self) -> _State:
        """Return the state that the owner has."""
        return _State(self.owner, type(self.owner), attributes_of(self.owner))

    def put(self) -> None:
        """Have the owner in this state."""
        if type(self.owner) is not self.kind:  # a lazy module becomes another one where it runs
            object.__setattr__(self.owner, "__class__", self.kind)
        object.__setattr__(self.owner, "__dict__", self.attributes)


class _Entries(NamedTuple):
    owner: Any
    entries: list[Any]

    def present(self) -> _Entries:
        """Return the entries that the mapping, list or set has."""
        return _Entries(self.owner, entries_of(self.owner))

    def put(self) -> None:
        """Have these entries in it, whatever methods its class has."""
        if isinstance(self.owner, OrderedDict):
            OrderedDict.clear(self.owner)
            for key, value in self.entries:
                OrderedDict.__setitem__(self.owner, key, value)
        elif isinstance(self.owner, dict):
            dict.clear(self.owner)
            dict.update(self.owner, self.entries)
        elif isinstance(self.owner, list):
            list.__setitem__(self.owner, slice(None), self.entries)
        else:
            set.clear(self.owner)
            set.update(self.owner, self.entries)


def attributes_of(owner: Any) -> dict[str, Any]:
    """Return the ``__dict__`` of an object, not of one that it stands for."""
    attributes: dict[str, Any] = object.__getattribute__(owner, "__dict__")
    return attributes


def entries_of(owner: Any) -> list[Any]:
    """Return the entries of a mapping, a list or a set, whatever methods its class has."""
    if isinstance(owner, OrderedDict):
        return list(OrderedDict.items(owner))
    if isinstance(owner, dict):
        return list(dict.items(owner))
    return list(list.__iter__(owner) if isinstance(owner, list) else set.__iter__(owner))


class OwnStates:
    """Other attributes and entries of objects, which these have while ``worn`` is entered and lose with it.

    The objects stay the same, so whatever holds one of them, a function or a reference, meets its other state.
    """

    def __init__(self) -> None:
        self._own: list[_State | _Entries] = []

    def add(self, owner: Any, attributes: dict[str, Any]) -> None:
        """Add an object.

        :param owner: the object, with attributes in a ``__dict__``
        :param attributes: what it has in the place of all of them
        """
        self._own.append(_State(owner, type(owner), attributes))

    def add_entries(self, owner: Any, entries: list[Any]) -> None:
        """Add a mapping, a list or a set.

        :param owner: the object
        :param entries: what it has in the place of all of its entries, those of a mapping in pairs
        """
        self._own.append(_Entries(owner, entries))

    @contextmanager
    def worn(self) -> Iterator[None]:
        """Have the objects in these states; what they change, their class as well, is there again the next time."""
        before = [each.present() for each in self._own]
        is_worn = False
        try:
            for each in self._own:
                each.put()
            is_worn = True
            yield
        finally:
            interrupt: KeyboardInterrupt | None = None
            own = None if is_worn else self._own
            while True:  # an interrupt waits: objects that are half put back would be worse
                try:
                    own = own or [each.present() for each in self._own]
                    for each in before:
                        each.put()
                    break
                except KeyboardInterrupt as error:
                    interrupt = error
            self._own = own
            if interrupt is not None:
                raise interrupt
