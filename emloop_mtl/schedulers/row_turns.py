"""Turns row by row."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

ENDLESS = sys.maxsize
"""Rows of a loader that starts over whenever it is through."""


class RowTurns:
    """Whose rows come next, where loaders take turns row by row and those that have no more drop out.

    What a row costs does not depend on how many loaders there are.

    :param lengths: how many rows each loader has; None where that shows only in reading
    :param has_row: tells of such a loader whether it has a row of this number
    """

    def __init__(self, lengths: Sequence[int | None], has_row: Callable[[int, int], bool]) -> None:
        self._lengths = list(lengths)
        self._is_known = None not in self._lengths
        self._has_row = has_row
        self._turn = [index for index, length in enumerate(lengths) if length != 0]
        """The loaders that have a row of the present number, as far as that is known."""
        self._place = 0
        """The place in it of the one that comes next."""
        self._number = 0
        """The number of the row that they are at."""
        self._next_end = self._find_end()

    def take(self, count: int) -> list[tuple[int, int]]:
        """Return the loaders that the next rows are of, in their order, and how many rows of each; fewer at the end."""
        taken: dict[int, int] = {}
        while count and self._turn:
            if self._place == len(self._turn):
                self._begin_turn()
                continue
            whole = self._whole_turns(count) if self._is_known else 0
            if whole:
                for index in self._turn:
                    taken[index] = taken.get(index, 0) + whole
                self._number += whole
                count -= whole * len(self._turn)
                continue
            if self._is_known:
                chunk = self._turn[self._place : self._place + count]
                if not taken and len(chunk) == count:  # as of many loaders
                    self._place += count
                    return [(index, 1) for index in chunk]
                for index in chunk:
                    taken[index] = taken.get(index, 0) + 1
                self._place += len(chunk)
                count -= len(chunk)
                continue
            index = self._turn[self._place]
            if self._lengths[index] is None and not self._has_row(index, self._number):
                self._lengths[index] = self._number
                del self._turn[self._place]
                continue
            taken[index] = taken.get(index, 0) + 1
            self._place += 1
            count -= 1
        return sorted(taken.items())

    def skip(self, count: int) -> None:
        """Leave out rows; all lengths must be known."""
        while count and self._turn:
            if self._place == len(self._turn):
                self._begin_turn()
                continue
            whole = self._whole_turns(count)
            found = whole * len(self._turn) or min(count, len(self._turn) - self._place)
            self._number += whole
            self._place += 0 if whole else found
            count -= found

    def taken(self, index: int) -> int:
        """Return how many rows of a loader were taken or skipped."""
        is_before = self._place == len(self._turn) or index < self._turn[self._place]
        length = self._lengths[index]
        return min(ENDLESS if length is None else length, self._number + is_before)

    def _whole_turns(self, count: int) -> int:
        """Return how many turns of all loaders so many rows begin with after which nobody drops out."""
        return min(count // len(self._turn), self._next_end - self._number - 1) if self._place == 0 else 0

    def _begin_turn(self) -> None:
        self._place = 0
        self._number += 1
        if self._number >= self._next_end:
            number = self._number
            self._turn = [i for i in self._turn if (length := self._lengths[i]) is None or length > number]
            self._next_end = self._find_end()

    def _find_end(self) -> int:
        known = [length for index in self._turn if (length := self._lengths[index]) is not None]
        return min(known, default=ENDLESS)
