"""What the flat name of a number tells."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from ..constants import ALL_STREAMS

MEAN = "mean"
"""The aggregation that goes without saying."""

LEARNING_RATE = "learning_rate"
SCORE_PARTS = 4
"""A score is called ``task/data/stream/metric``."""


class NumberName(NamedTuple):
    """The parts of a flat name; what it does not tell is empty.

    A number that is of no task has its variable as ``metric``.
    """

    task: str
    data: str
    stream: str
    metric: str

    @classmethod
    def of(cls, name: str, streams: Collection[str]) -> NumberName:
        """Take a flat name apart.

        :param streams: the streams that are known; others are recognized in the names of scores
        """
        parts = name.split("/")
        is_long = len(parts) >= SCORE_PARTS
        if is_long and (parts[2] in streams or parts[2] == ALL_STREAMS):
            return cls(parts[0], parts[1], parts[2], "/".join(parts[3:]))
        if parts[0] in streams and len(parts) > 1:
            stream, *variable = parts
            if len(variable) > 1 and variable[-1] == MEAN:
                variable.pop()
            if len(variable) > 1 and variable[1] == "loss":
                return cls(variable[0], "", stream, "/".join(variable[1:]))
            return cls("", "", stream, "/".join(variable))
        if is_long:
            return cls(parts[0], parts[1], parts[2], "/".join(parts[3:]))
        return cls("", "", "", name)

    @property
    def is_loss(self) -> bool:
        """Whether it is a loss, or a statistic of one."""
        return self.metric.split("/")[0] == "loss"


def is_learning_rate(name: str) -> bool:
    """Whether writers call a learning rate so."""
    return name == LEARNING_RATE or name.startswith(f"{LEARNING_RATE}/")
