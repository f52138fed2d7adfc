"""Loaders with given shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..errors import ConfigError
from ..types import State
from .abstract_task_scheduler import Loader
from .drawn_scheduler import DrawnScheduler
from .loader_weights import check_weights, match_weights


class Weighted(DrawnScheduler):
    """Take batches of each loader in proportion to a weight, in random order; AllenNLP's ``weighted``.

    :param weights: loader name -> a number >= 0, one for every loader; only their ratios count, and a loader with 0
        is left out
    :param batches_per_pass: batches of one pass; None for as many as the loaders have together
    :raise ConfigError: for weights of which no shares can be made

    .. code-block:: yaml

        class: Weighted
        weights: {digits: 3, letters: 1}
        batches_per_pass: 1000
    """

    def __init__(self, weights: Mapping[str, float], batches_per_pass: int | None = None) -> None:
        super().__init__(batches_per_pass)
        try:
            self._weights = check_weights(weights, "Weighted: weights")
        except ConfigError as error:
            raise error.below(("weights",)) from error.__cause__

    def settings(self) -> dict[str, State]:
        return {**super().settings(), "weights": dict(self._weights)}

    def shares(self, loaders: Sequence[Loader]) -> list[int | None]:
        return [None if weight else 0 for weight in self.weights(loaders, 0)]

    def weights(self, loaders: Sequence[Loader], pass_number: int) -> Sequence[float]:
        try:
            return match_weights(self._weights, loaders, "Weighted")
        except ConfigError as error:
            raise error.below(("weights",)) from error.__cause__
