"""End the training when a number has stopped to improve."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from emloop_mtl.abstract_hook import TrainingTerminated
from emloop_mtl.types import EpochNumber

from .on_plateau import OnPlateau


class StopOnPlateau(OnPlateau):
    """End the training when the mean of the last values is worse than the mean over a longer time.

    As long as there are no more than ``short_term`` values the two means are of the same values, so nothing ends.
    An epoch without the number, or in which it is nan, adds no value.

    :param long_term: how many values the longer mean is taken over
    :param short_term: how many values the shorter mean is taken over
    :param stream: the stream that the number is of
    :param variable: its variable, such as ``loss`` or ``model/all/macro_average``
    :param mode: ``min`` if less is better, ``max`` if more is
    :param aggregation: which number of a variable that has several; by default the ``mean`` or the only one
    :raise ConfigError: unless 0 < short_term < long_term

    .. code-block:: yaml

        hooks:
          - Evaluate: {streams: [valid]}
          - ComputeStats: {variables: [loss]}
          - StopOnPlateau: {long_term: 20, short_term: 5, stream: valid, variable: loss}
    """

    def provides(self) -> Collection[str | EpochNumber]:
        """Return nothing."""
        return ()

    def _on_plateau_action(self, **kwargs: Any) -> None:
        raise TrainingTerminated(
            f"{self.name}: {self._watched} has stopped to improve: mean {self._mean(self._short_term):g} "
            f"over {self._short_term} epochs, {self._mean(self._long_term):g} over {len(self._values)}"
        )
