"""Whether copies of modules would act on the modules themselves."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from types import FunctionType
from typing import Any
from weakref import ReferenceType

from torch import nn

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
"""Attributes that hold nothing else than what is copied, or is looked for elsewhere."""


def reaches_back(modules: Collection[nn.Module]) -> str | None:
    """Return why copies of modules would change, or end, what the modules use; None if nothing speaks for it.

    A function that holds a module, and a weak reference to one, are copied as they are. What ends with an object, such
    as a folder, ends with its copy.

    :param modules: all modules that are copied together
    """
    own = set(map(id, modules))
    for module in modules:
        for value in (module, *_attributes(module)):
            if hasattr(type(value), "__del__"):
                return f"a {type(value).__name__} does something at its end"
            if any(id(held) in own for held in _held(value)):
                return f"a function or reference of {type(module).__name__} holds a module"
    return None


def _attributes(module: nn.Module) -> Iterator[Any]:
    for name, value in vars(module).items():
        if name in _OF_EVERY_MODULE:
            continue
        yield value
        if isinstance(value, list | tuple):
            yield from value
        elif isinstance(value, dict):
            yield from value.values()


def _held(value: Any) -> Iterator[Any]:
    """Yield what a function, or a reference, keeps hold of however it is copied."""
    if isinstance(value, FunctionType):
        for cell in value.__closure__ or ():
            try:
                yield cell.cell_contents
            except ValueError:  # nothing was put there yet
                continue
        yield from value.__defaults__ or ()
    elif isinstance(value, ReferenceType):
        yield value()
