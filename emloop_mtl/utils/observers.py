"""Who is told of something."""

from __future__ import annotations

from typing import Any, TypeVar

_T = TypeVar("_T")


class Observers(list[_T]):
    """What somebody has asked to be told; a copy, or a pickle, of what they look at goes without them."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Observers[_T]:
        return type(self)()

    def __reduce__(self) -> tuple[type[Observers[_T]], tuple[()]]:
        return type(self), ()
