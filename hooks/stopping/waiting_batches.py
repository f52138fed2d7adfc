"""Batches that are still to be looked at."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from emloop_mtl.data.batch_place import BatchPlace

from ..numbers import fetch_rows
from .non_finite import Check, checks_of, fetch_bad, is_bad

MANY = 16
"""From so many variables on, those of a batch wait as one vector."""


class _Waiting(NamedTuple):
    """Variables of a batch that are still to be fetched."""

    place: BatchPlace
    variables: Sequence[str]
    check: Tensor | bool
    """What there is to know about a single variable, or a vector with a number for each."""


class WaitingBatches:
    """Keeps what there is to know about batches where it is, until it is fetched in one transfer.

    :param with_infinity: whether infinity is bad, too
    :param known: gets what there is to know about the variable of a stream, and returns what of it can be looked at
    """

    def __init__(
        self, with_infinity: bool, known: Callable[[Iterable[Check], str, str], Iterable[Tensor | bool]]
    ) -> None:
        self._with_infinity = with_infinity
        self._known = known
        self._waiting: list[_Waiting] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, place: BatchPlace, variables: Sequence[str], values: Sequence[Any]) -> bool:
        """Let the variables of a batch wait; return whether one is known to be bad already."""
        self._count += 1
        waiting = self._waiting
        joined = _joined(values) if len(variables) >= MANY else None
        if joined is not None:
            waiting.append(_Waiting(place, variables, joined))
            return False
        is_found = False
        for variable, value in zip(variables, values, strict=True):
            if isinstance(value, Tensor) and not value.dim() and value.is_floating_point():
                # the most, so without further questions
                waiting.append(_Waiting(place, (variable,), value.detach() if value.requires_grad else value))
                continue
            for check in self._known(checks_of(value, self._with_infinity), variable, place.stream):
                waiting.append(_Waiting(place, (variable,), check))
                is_found = is_found or check is True
        return is_found

    def fetch(self) -> Iterator[tuple[BatchPlace, str, str]]:
        """Fetch what waits, which waits no longer; yield where something is bad, the variable, and what it is."""
        waiting = self._waiting
        self.forget()
        single = iter(fetch_bad([each.check for each in waiting if len(each.variables) == 1], self._with_infinity))
        rows = iter(fetch_rows([each.check for each in waiting if len(each.variables) > 1]))  # type: ignore[misc]
        for place, variables, _ in waiting:
            if len(variables) == 1:
                bad, what = next(single)
                if bad:
                    yield place, variables[0], what
                continue
            row = next(rows)
            if not all(map(math.isfinite, row)):
                for variable, number in zip(variables, row, strict=True):
                    if is_bad(number, self._with_infinity):
                        yield place, variable, str(number)

    def forget(self) -> None:
        """Forget what waits."""
        self._waiting, self._count = [], 0


def _joined(values: Sequence[Any]) -> Tensor | None:
    """Return 0-d tensors on one device as a vector without their gradients, None if they are anything else."""
    try:
        joined = torch.stack(values).detach()  # type: ignore[arg-type]
    except (TypeError, RuntimeError):
        return None
    return joined if joined.dim() == 1 and joined.is_floating_point() else None
