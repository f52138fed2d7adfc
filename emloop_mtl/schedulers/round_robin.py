"""Loaders in turn."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import torch

from ..errors import ConfigError
from ..utils.random import permutation
from .abstract_task_scheduler import AbstractTaskScheduler, Loader


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

    def lengths(self, loaders: Sequence[Loader]) -> list[int | None]:
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
            turns = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths, dtype=torch.int64))
            for index in turns[permutation(len(turns), seed, "RoundRobin", pass_number)].tolist():
                yield (index,)
            return
        left = list(lengths)
        in_turn = [index for index, length in enumerate(lengths) if length != 0]
        while in_turn:
            for index in tuple(in_turn):
                had_one = yield (index,)
                remaining = left[index]
                if remaining is not None:
                    left[index] = remaining = remaining - 1
                if not had_one or remaining == 0:
                    in_turn.remove(index)
