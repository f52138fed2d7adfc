"""Act when a number has stopped to improve."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.errors import ConfigError
from emloop_mtl.types import EpochData, EpochNumber, Mode, State

from ..arguments import check_count, check_overridden
from ..watched_number import WatchedNumber

if TYPE_CHECKING:
    from emloop_mtl.main_loop import MainLoop


class OnPlateau(AbstractHook):
    """Base of hooks that act when the mean of the last values of a number is worse than that over a longer time.

    ``_on_plateau_action(epoch_id=..., epoch_data=...)`` is called after each epoch in which this is so, hence again and
    again until the number improves. As long as there are no more than ``short_term`` values, the two means are of the
    same values, so nothing is called; from then on the longer mean is over as many values as there are. An epoch
    without the number, or in which it is nan, adds no value and calls nothing.

    :param long_term: how many values the longer mean is taken over
    :param short_term: how many values the shorter mean is taken over
    :param stream: the stream that the number is of
    :param variable: its variable, such as ``loss`` or ``model/all/macro_average``
    :param mode: ``min`` if less is better, ``max`` if more is
    :param aggregation: which number of a variable that has several; by default the ``mean`` or the only one
    :raise ConfigError: unless 0 < short_term < long_term, and if ``_on_plateau_action`` is not overridden

    .. code-block:: python

        # plateaus.py
        from emloop_mtl.hooks import OnPlateau

        class SaveAtPlateau(OnPlateau):
            def _on_plateau_action(self, epoch_id, epoch_data):
                self.main_loop.request_save("plateau")

    .. code-block:: yaml

        hooks:
          - Evaluate: {streams: [valid]}
          - ComputeStats: {variables: [loss]}
          - plateaus.SaveAtPlateau: {long_term: 20, short_term: 5, stream: valid, variable: loss}
    """

    training_only = True
    renamed: ClassVar[Mapping[str, str]] = {"objective": "mode"}

    def __init__(
        self,
        long_term: int = 50,
        short_term: int = 10,
        stream: str = "valid",
        variable: str = "loss",
        mode: Mode = "min",
        aggregation: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_overridden(self, OnPlateau, "_on_plateau_action")
        self._short_term = check_count(self.name, "short_term", short_term)
        if check_count(self.name, "long_term", long_term) <= short_term:
            text = f"long_term must be more than short_term, but {long_term} is not more than {short_term}"
            raise ConfigError(f"{self.name}: {text}", ("long_term",))
        self._long_term = long_term
        self._stream = stream
        self._variable = variable
        self._watched = WatchedNumber(self.name, stream, variable, mode, aggregation)
        self._values: deque[float] = deque(maxlen=long_term)

    def register_mainloop(self, main_loop: MainLoop) -> None:
        """Check the stream that is watched."""
        super().register_mainloop(main_loop)
        self._watched.check_stream(main_loop)

    def requires(self) -> Collection[str | EpochNumber]:
        """Return the number that is watched."""
        return (self._watched.number,)

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        """Compare the two means, and act if the shorter one is worse."""
        value = self._watched.read(epoch_data)
        if value is None:
            return
        self._values.append(value)
        if self._watched.is_better(self._mean(self._long_term), than=self._mean(self._short_term)):
            self._on_plateau_action(epoch_id=epoch_id, epoch_data=epoch_data)

    @abstractmethod
    def _on_plateau_action(self, **kwargs: Any) -> None:
        """Act: to be overridden.

        :param kwargs: ``epoch_id`` and ``epoch_data``
        """

    def state_dict(self) -> dict[str, State]:
        """Return the last ``long_term`` values."""
        return {"values": list(self._values)}

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Go on with the values of the epochs before."""
        self._values = deque(state["values"], maxlen=self._long_term)

    def _mean(self, count: int) -> float:
        values = list(self._values)[-count:]
        return sum(values) / len(values)
