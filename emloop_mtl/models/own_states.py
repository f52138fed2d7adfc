"""States of their own that objects have for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple


class _State(NamedTuple):
    owner: Any
    kind: type
    attributes: dict[str, Any]

    def present(self) -> _State:
        """Return the state that the owner has."""
        return _State(self.owner, type(self.owner), vars(self.owner))

    def put(self) -> None:
        """Have the owner in this state."""
        if type(self.owner) is not self.kind:  # a lazy module becomes another one where it runs
            object.__setattr__(self.owner, "__class__", self.kind)
        object.__setattr__(self.owner, "__dict__", self.attributes)


class _Entries(NamedTuple):
    owner: dict[Any, Any]
    entries: dict[Any, Any]

    def present(self) -> _Entries:
        """Return the entries that the mapping has."""
        return _Entries(self.owner, dict(self.owner))

    def put(self) -> None:
        """Have these entries in the mapping."""
        self.owner.clear()
        self.owner.update(self.entries)


class OwnStates:
    """Other attributes of objects, which these have while ``worn`` is entered and lose with it.

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

    def add_entries(self, mapping: dict[Any, Any]) -> None:
        """Add a mapping, which has the same entries, and may lose some of them or get others."""
        self._own.append(_Entries(mapping, dict(mapping)))

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
