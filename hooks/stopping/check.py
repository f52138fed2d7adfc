"""End the training when a number has reached its level, and fail where it does not in time."""

from __future__ import annotations

from collections.abc import Collection
from math import isfinite
from typing import TYPE_CHECKING, Any

from emloop_mtl.abstract_hook import AbstractHook, TrainingTerminated
from emloop_mtl.errors import ConfigError
from emloop_mtl.types import EpochData, EpochNumber

from ..arguments import check_count
from ..watched_number import WatchedNumber
from .check_failed_error import CheckFailedError

if TYPE_CHECKING:
    from emloop_mtl.main_loop import MainLoop


class Check(AbstractHook):
    """End the training after the epoch in which a number is greater than it has to be, the zeroth included.

    If it is not by the end of an epoch, the training ends with an error, and the command with exit code 1: for tests
    that a model learns. An epoch without the number, or in which it is nan, has not reached the level.

    :param variable: the variable, such as ``digit/digits/accuracy``
    :param required_min_value: what it must be greater than
    :param max_epoch: the epoch at whose end it must be
    :param stream: the stream that the number is of
    :param aggregation: which number of a variable that has several; by default the ``mean`` or the only one
    :raise ConfigError: for a level that is no finite number, an epoch that is no positive whole number, and a stream
        that does not exist

    .. code-block:: yaml

        hooks:
          - Evaluate: {streams: [valid]}
          - ScoreTasks
          - Check: {variable: digit/shapes/accuracy, required_min_value: 0.99, max_epoch: 10}
    """

    training_only = True

    def __init__(
        self,
        variable: str,
        required_min_value: float,
        max_epoch: int,
        stream: str = "valid",
        aggregation: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        level = required_min_value
        if isinstance(level, bool) or not isinstance(level, int | float) or not isfinite(level):
            text = f"required_min_value must be a finite number, not {level!r}"
            raise ConfigError(f"{self.name}: {text}", ("required_min_value",))
        self._level = level
        self._max_epoch = check_count(self.name, "max_epoch", max_epoch)
        self._watched = WatchedNumber(self.name, stream, variable, "max", aggregation)

    def register_mainloop(self, main_loop: MainLoop) -> None:
        """Check the stream that is watched."""
        super().register_mainloop(main_loop)
        self._watched.check_stream(main_loop)

    def max_steps(self) -> int | None:
        """Return how many steps there are until the last epoch ends, None where that is not known."""
        return self.main_loop.steps_of(self._max_epoch)

    def requires(self) -> Collection[str | EpochNumber]:
        """Return the number that is watched."""
        return (self._watched.number,)

    def provides(self) -> Collection[str | EpochNumber]:
        """Return nothing."""
        return ()

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        """Compare the number with its level.

        :raise TrainingTerminated: if it is greater
        :raise CheckFailedError: if it is not, and the last epoch is over
        """
        value = self._watched.read(epoch_data)
        if value is not None and value > self._level:
            raise TrainingTerminated(f"{self.name}: {self._watched} is {value:g}, more than {self._level:g}")
        if epoch_id >= self._max_epoch:
            found = "has no number" if value is None else f"is {value:g}"
            text = f"{self._watched} {found} after epoch {epoch_id}, and has to be more than {self._level:g}"
            raise CheckFailedError(f"{self.name}: {text} by the end of epoch {self._max_epoch}")
