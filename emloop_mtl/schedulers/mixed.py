"""All loaders in each step."""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from itertools import count

from .abstract_task_scheduler import AbstractTaskScheduler, Loader

log = logging.getLogger(__name__)


class Mixed(AbstractTaskScheduler):
    """Take one batch of every loader in each step: their gradients add up to one update.

    A pass ends with the shortest loader; the step that it cannot complete is no step. ``n_batches`` of the loaders
    is not heeded.

    :param fillup: end with the longest loader instead; shorter ones start over

    .. code-block:: yaml

        class: Mixed
        fillup: true
    """

    def __init__(self, fillup: bool = False) -> None:
        super().__init__(fillup, heeds_n_batches=False)
        self._warned = False

    def lengths(self, loaders: Sequence[Loader], *, seed: int = 0, pass_number: int = 0) -> list[int | None]:
        limited = [loader.name for loader in loaders if loader.n_batches]
        if limited and not self._warned:
            self._warned = True
            log.warning(
                "Mixed takes a batch of every loader per step: n_batches of loader %r has no effect", limited[0]
            )
        return super().lengths(loaders)

    def num_steps(self, loaders: Sequence[Loader]) -> int | None:
        return next(iter(self.shares(loaders)), 0)

    def shares(self, loaders: Sequence[Loader]) -> list[int | None]:
        lengths = self.lengths(loaders)
        known = [length for length in lengths if length is not None]
        # An empty loader ends the pass whatever the others have.
        exact = len(known) == len(lengths) or 0 in known
        return [min(known, default=0) if exact else None] * len(lengths)

    def picks(
        self, lengths: Sequence[int | None], *, seed: int = 0, pass_number: int = 0
    ) -> Generator[tuple[int, ...], bool, None]:
        everyone = tuple(range(len(lengths)))
        known = [length for length in lengths if length is not None]
        for _ in range(min(known)) if known else count() if lengths else ():
            if not (yield everyone):
                return
