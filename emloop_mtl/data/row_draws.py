"""What a dataset draws from the global random generators while its rows are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ..utils.random import host_state, same_host_state, set_host_state
from .row_seeds import RowSeeds

T = TypeVar("T")


class RowDraws:
    """Lets every row draw what seed, loader, pass and row give, whoever reads it, and in whatever batch.

    To seed the generators takes longer than to read many a row. So the first batch shows whether its rows draw at
    all. If they do not, no further one is seeded before it has drawn after all; that batch is read again.
    """

    def __init__(self) -> None:
        self._do_draw: bool | None = None
        """Whether something was drawn so far, None before anything was read."""

    def isolated(self, read: Callable[[RowSeeds | None], T], parts: tuple[object, ...]) -> T:
        """Return what ``read`` returns, and leave the global generators of the host as they are.

        :param read: reads a batch, and lets each of its rows draw by what it is given, if that is not None
        :param parts: what the random numbers of this round derive from
        """
        outer = host_state()
        is_changed = True
        try:
            if self._do_draw is False:
                batch = read(None)
                is_changed = not same_host_state(outer, host_state())
                if not is_changed:
                    return batch
                self._do_draw = True
            seeds = RowSeeds(parts, is_watched=self._do_draw is None)
            batch = read(seeds)
            self._do_draw = self._do_draw or seeds.were_used
            return batch
        finally:
            if is_changed:
                set_host_state(outer)
