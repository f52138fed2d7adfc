"""Loaders in turn."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from ..errors import ConfigError
from ..types import State
from .abstract_task_scheduler import AbstractTaskScheduler, Loader
from .shuffled_turns import shuffled_turns


class RoundRobin(AbstractTaskScheduler):
    """Take one batch of each loader in turn; exhausted ones drop out.

    :param fillup: ask as many batches of every loader as the longest one has; shorter ones start over
    :param shuffle: take all batches in random order instead, so that at any moment a loader comes next with the
        share of its batches; the order differs from pass to pass and needs the length of every loader

    .. code-block:: yaml

        class: RoundRobin
        shuffle: true
    """

    def __init__(self, fillup: bool = False, shuffle: bool = False) -> None:
        super().__init__(fillup)
        self.shuffle = shuffle

    def settings(self) -> dict[str, State]:
        return {**super().settings(), "shuffle": self.shuffle}

    def lengths(self, loaders: Sequence[Loader], *, seed: int = 0, pass_number: int = 0) -> list[int | None]:
        lengths = super().lengths(loaders)
        if self.shuffle and None in lengths:
            name = loaders[lengths.index(None)].name
            raise ConfigError(
                f"RoundRobin with shuffle needs the length of loader {name!r}, which has none; "
                f"set its n_batches, or shuffle: false"
            )
        return lengths

    def picks(
        self, lengths: Sequence[int | None], *, seed: int = 0, pass_number: int = 0
    ) -> Generator[tuple[int, ...], bool, None]:
        if self.shuffle:
            known = [length or 0 for length in lengths]
            for index in shuffled_turns(known, seed, "RoundRobin", pass_number):
                yield (index,)
            return
        left = list(lengths)
        in_turn = [index for index, length in enumerate(lengths) if length != 0]
        while in_turn:
            stay = []
            for index in in_turn:
                had_one = yield (index,)
                remaining = left[index]
                if remaining is not None:
                    left[index] = remaining = remaining - 1
                if had_one and remaining != 0:
                    stay.append(index)
            in_turn = stay
