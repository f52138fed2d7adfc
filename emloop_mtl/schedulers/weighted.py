"""Loaders with given shares."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..errors import ConfigError, nearest
from ..types import State
from .abstract_task_scheduler import Loader
from .drawn_scheduler import DrawnScheduler


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
        if not isinstance(weights, Mapping):
            raise ConfigError(f"Weighted: weights must map loader names to numbers, not {weights!r}", ("weights",))
        for name, weight in weights.items():
            is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
            if not (is_number and 0 <= weight < math.inf):
                text = f"the weight of loader {name!r} must be a finite number >= 0, not {weight!r}"
                raise ConfigError(f"Weighted: {text}", ("weights", name))
        self._weights = {str(name): float(weight) for name, weight in weights.items()}

    def settings(self) -> dict[str, State]:
        return {**super().settings(), "weights": dict(self._weights)}

    def weights(self, loaders: Sequence[Loader], pass_number: int) -> Sequence[float]:
        names = [loader.name for loader in loaders]
        for name in self._weights.keys() - set(names):
            raise ConfigError(f"Weighted: there is no loader {name!r}{nearest(name, names)}", ("weights", name))
        for name in names:
            if name not in self._weights:
                text = f"loader {name!r} has no weight; give it one, 0 to leave it out"
                raise ConfigError(f"Weighted: {text}", ("weights",))
        found = [self._weights[name] for name in names]
        if not any(found):
            raise ConfigError("Weighted: all weights are 0; give a loader a greater one", ("weights",))
        return found
