"""Looking for nan and infinity in whatever a batch or an epoch holds."""

from __future__ import annotations

import cmath
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from ..numbers import fetch_numbers

Check = Tensor | bool | type
"""A number on its device, to be fetched and looked at; whether what was looked at is bad; or a type that cannot be."""


def checks_of(value: Any, with_infinity: bool) -> Iterator[Check]:
    """Yield what there is to know about the parts of a value, without waiting for the device.

    Numbers of Python and numpy are looked at where they are. Of a tensor comes its value if it has no dimensions, since
    that costs nothing, or else a bool, still on the device. Integers and bools are never bad.

    :param value: a number, a tensor or array of any shape, or lists and mappings of these
    :param with_infinity: whether infinity is bad, too
    """
    if isinstance(value, Tensor):
        yield from _checks_of_tensor(value.detach(), with_infinity)
    elif isinstance(value, np.ndarray | np.generic):
        yield from _checks_of_array(np.asarray(value), with_infinity)
    elif isinstance(value, float | complex):
        yield cmath.isnan(value) or (with_infinity and cmath.isinf(value))
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from checks_of(part, with_infinity)
    elif isinstance(value, list | tuple):
        if all(type(part) is float for part in value):  # by far the most lists, and the longest
            yield from _checks_of_array(np.asarray(value, dtype=float), with_infinity)
        else:
            for part in value:
                yield from checks_of(part, with_infinity)
    elif not isinstance(value, int):
        yield type(value)


def is_bad(number: float, with_infinity: bool) -> bool:
    """Return whether a number that has been fetched is nan, or infinite where that is bad."""
    return cmath.isnan(number) or (with_infinity and cmath.isinf(number))


def fetch_bad(checks: Sequence[Tensor | bool], with_infinity: bool) -> list[tuple[bool, str]]:
    """Fetch all at once; return for each whether what was looked at is bad, and what it is then."""
    either = "nan or infinite" if with_infinity else "nan"
    found: list[tuple[bool, str]] = []
    for check, number in zip(checks, fetch_numbers(checks), strict=True):
        assert number is not None
        if isinstance(check, Tensor) and check.is_floating_point():
            found.append((is_bad(number, with_infinity), str(number)))
        else:
            found.append((number == 1, either))
    return found


def _checks_of_tensor(value: Tensor, with_infinity: bool) -> Iterator[Check]:
    if not (value.is_floating_point() or value.is_complex()):
        return
    if value.dim() == 0 and not value.is_complex():
        yield value
        return
    try:
        yield value.isfinite().all().logical_not() if with_infinity else value.isnan().any()
    except RuntimeError:  # a layout or a type of numbers that torch cannot ask this of
        yield type(value)


def _checks_of_array(value: np.ndarray[Any, Any], with_infinity: bool) -> Iterator[Check]:
    kind = value.dtype.kind
    if kind in "fc":
        yield not bool(np.isfinite(value).all()) if with_infinity else bool(np.isnan(value).any())
    elif kind == "O":
        for part in value.ravel().tolist():
            yield from checks_of(part, with_infinity)
    elif kind not in "biu":
        yield type(value)
