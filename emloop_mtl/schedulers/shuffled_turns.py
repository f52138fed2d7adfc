"""Turns in random order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from ..utils.random import permutation

CHUNK = 4096
"""Turns that are made numbers of Python's at once; a pass can have millions."""


def shuffled_turns(lengths: Sequence[int], *parts: object) -> Iterator[int]:
    """Yield each index as often as its entry in ``lengths`` says, in a random order that derives from ``parts``."""
    turns = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths, dtype=torch.int64))
    turns = turns[permutation(len(turns), *parts)]
    for begin in range(0, len(turns), CHUNK):
        yield from turns[begin : begin + CHUNK].tolist()
