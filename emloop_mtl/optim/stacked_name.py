"""The name under which an optimizer holds parameters that are one."""

from __future__ import annotations

from collections.abc import Iterable


class StackedName(str):
    """The names of several parameters that an optimizer updates as one, joined to one name.

    Nothing is saved under it: state and gradients come out under the names of the ``members``.

    :param members: the names of the parameters, in the order in which they are stacked
    """

    __slots__ = ("members",)

    members: tuple[str, ...]

    def __new__(cls, members: Iterable[str]) -> StackedName:
        members = tuple(members)
        name = super().__new__(cls, " + ".join(members))
        name.members = members
        return name

    def __reduce__(self) -> tuple[type[StackedName], tuple[tuple[str, ...]]]:
        return StackedName, (self.members,)
