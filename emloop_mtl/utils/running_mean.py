"""A weighted mean of numbers that stay on the device."""

from __future__ import annotations

import math

from torch import Tensor

from ..types import State
from .running_means import RunningMeans


class RunningMean:
    """A weighted mean that is added to without waiting for the device and fetched once; see ``RunningMeans``."""

    def __init__(self) -> None:
        self.means = RunningMeans(1)
        """What values are added to."""

    @property
    def weight(self) -> int:
        """The sum of all weights."""
        return self.means.weights[0]

    def add(self, value: Tensor | float, weight: int = 1) -> None:
        """Take in a value; with weight 0 nothing, whatever the value.

        :param value: a number or a 0-d tensor, which must not be changed afterwards
        :param weight: what it counts for, e.g. a number of rows
        """
        if weight:
            self.means.add((value,), weight)

    def result(self) -> float:
        """Fetch and return the mean, nan if the weights are 0 in sum; nothing that is kept changes."""
        weight = self.weight
        return self.means.totals()[0] / weight if weight else math.nan

    def state_dict(self) -> dict[str, State]:
        """Return the state, values that are not yet added up included, so that saving changes no rounding."""
        return self.means.state_dict()

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Go on from what ``state_dict`` returned."""
        self.means.load_state_dict(state)
