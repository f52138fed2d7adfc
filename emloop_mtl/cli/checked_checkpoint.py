"""A checkpoint that was checked."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class CheckedCheckpoint:
    """What was found in one checkpoint.

    :param name: its folder
    :param tag: what it was saved for
    :param epoch: finished epochs; None in a bad one, as all that follows
    :param step: finished steps
    :param finished: whether the training had ended with it
    :param bytes: of its files together
    :param fault: the file and what is wrong with it; None for one that is whole
    """

    name: str
    tag: str
    epoch: int | None = None
    step: int | None = None
    finished: bool | None = None
    bytes: int | None = None
    fault: str | None = None
