"""Seeding what is read by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ..utils.random import derive_seed, host_state, same_host_state, seed_host

T = TypeVar("T")


class RowSeeds:
    """Seeds the global generators of the host for what is read.

    :param parts: what the seeds derive from, beside a number for each
    :param is_watched: whether to find out if anything is drawn
    """

    def __init__(self, parts: tuple[object, ...], is_watched: bool) -> None:
        self.were_used = False
        """Whether anything was seen to be drawn."""
        self._parts = parts
        self._is_watched = is_watched

    def read(self, read: Callable[[int], T], what: str, number: int) -> T:
        """Return ``read(number)``, where the generators depend on what is read, and on its number.

        :param what: tells numbers of rows from those of batches
        """
        seed_host(derive_seed(*self._parts, what, number))
        if self.were_used or not self._is_watched:
            return read(number)
        before = host_state()
        value = read(number)
        self.were_used = not same_host_state(before, host_state())
        return value
