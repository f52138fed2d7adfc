"""Loader after loader."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from ..types import State
from .abstract_task_scheduler import AbstractTaskScheduler


class Sequential(AbstractTaskScheduler):
    """Take all batches of the first loader, then all of the second, and so on.

    :param fillup: ask as many batches of every loader as the longest one has; shorter ones start over
    :param every_batch: take every batch once, whatever ``n_batches`` a loader has, as evaluation does

    .. code-block:: yaml

        class: Sequential
        fillup: true
    """

    def __init__(self, fillup: bool = False, every_batch: bool = False) -> None:
        super().__init__(fillup, heeds_n_batches=not every_batch)
        self._every_batch = every_batch

    def settings(self) -> dict[str, State]:
        return {**super().settings(), "every_batch": self._every_batch}

    def picks(
        self, lengths: Sequence[int | None], *, seed: int = 0, pass_number: int = 0
    ) -> Generator[tuple[int, ...], bool, None]:
        for index, length in enumerate(lengths):
            if length is None:
                while (yield (index,)):
                    pass
            else:
                for _ in range(length):
                    yield (index,)
