"""Random generators that objects have of their own."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import BuiltinMethodType, CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch

GENERATORS = (random.Random, np.random.RandomState, np.random.Generator, np.random.BitGenerator, torch.Generator)

MOST_ITEMS = 64
"""Collections with more entries are data."""

MOST_OBJECTS = 10_000
"""After so many there is no end to them."""

CALLED = ("__call__", "__getitem__", "__getitems__", "forward")
"""The methods that run where something is read or evaluated."""


@contextmanager
def kept_generators(*roots: Any) -> Iterator[None]:
    """A context after which generators stand where they stood before: those that the roots hold, or name in their code.

    :param roots: objects and functions; what they hold is looked through, but for data
    """
    kept = [put_back for found in _objects(roots) if (put_back := _putting_back(found)) is not None]
    try:
        yield
    finally:
        for put_back in kept:
            put_back()


def _putting_back(found: Any) -> Callable[[], Any] | None:
    """Return what sets a generator to where it stands now, None for anything else."""
    if isinstance(found, torch.Generator):
        return partial(found.set_state, found.get_state())
    if isinstance(found, np.random.RandomState):
        return partial(found.set_state, found.get_state())
    if isinstance(found, np.random.BitGenerator):
        return partial(setattr, found, "state", found.state)
    if isinstance(found, random.Random) and not isinstance(found, random.SystemRandom):
        return partial(found.setstate, found.getstate())
    return None


def _objects(roots: Iterable[Any]) -> Iterator[Any]:
    """Yield each object that can be come to from the roots, the nearest ones first."""
    waiting, seen = deque(roots), dict.fromkeys(map(id, roots))
    while waiting and len(seen) < MOST_OBJECTS:
        found = waiting.popleft()
        yield found
        held: Iterable[Any] = ()
        with suppress(Exception):  # of what answers no questions nothing is known
            held = _held(found)
        for other in held:
            if id(other) not in seen and not isinstance(other, str | bytes | int | float | torch.Tensor | np.ndarray):
                seen[id(other)] = None
                waiting.append(other)


def _held(found: Any) -> Iterable[Any]:
    if isinstance(found, np.random.Generator):
        return (found.bit_generator,)
    if isinstance(found, FunctionType):
        variables = [cell.cell_contents for cell in found.__closure__ or () if cell != CellType()]  # which has none
        named = [found.__globals__.get(name) for name in _names(found.__code__)]
        return (*variables, *(each for each in named if isinstance(each, GENERATORS)))
    if isinstance(found, MethodType):
        return found.__self__, found.__func__
    if isinstance(found, BuiltinMethodType):
        return (found.__self__,)
    if isinstance(found, partial):
        return found.func, *found.args, *found.keywords.values()
    if isinstance(found, dict):
        return tuple(found.values()) if len(found) <= MOST_ITEMS else ()
    if isinstance(found, list | tuple | set | frozenset | deque):
        return tuple(found) if len(found) <= MOST_ITEMS else ()
    if isinstance(found, type | ModuleType):
        return ()
    kinds = type(found).__mro__
    methods = [vars(kind)[name] for kind in kinds for name in CALLED if name in vars(kind)]
    slots = [getattr(found, name, None) for kind in kinds for name in vars(kind).get("__slots__", ())]
    return *getattr(found, "__dict__", {}).values(), *slots, *methods


def _names(code: CodeType) -> set[str]:
    """Return the names that code, and what is written in it, takes from outside."""
    inner = (_names(each) for each in code.co_consts if isinstance(each, CodeType))
    return set(code.co_names).union(*inner)
