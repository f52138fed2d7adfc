"""The end of a training that was killed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DisturbedRun:
    """How a training ended that was killed.

    :param step: the step that it was killed at
    :param kills: how often it was really killed: a training may end before its next kill comes
    :param differences: a line for each part of its end that differs
    """

    step: int
    kills: int
    differences: list[str]
