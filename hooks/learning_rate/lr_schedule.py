"""Change the learning rate during the training."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.errors import ConfigError
from emloop_mtl.optim.learning_rate import Unit
from emloop_mtl.optim.schedules.abstract_schedule import AbstractSchedule
from emloop_mtl.types import EpochData, EpochNumber, Mode

from ..watched_number import WatchedNumber
from .of_model import learning_rate_of

if TYPE_CHECKING:
    from emloop_mtl.main_loop import MainLoop


class LRSchedule(AbstractHook):
    """Make the learning rate follow a schedule over the whole run, after the warm-up if there is one.

    The schedules are ``none``, ``linear``, ``exponential``, ``plateau``, ``step``, ``multi_step``, ``cyclic``,
    ``one_cycle`` and ``cosine_annealing``. ``linear``, ``one_cycle`` and ``cosine_annealing`` need the length of the
    run. ``plateau`` watches a number of the epochs; one that is absent or nan is no new value, and none counts that was
    found before the first step after the warm-up.

    :param schedule: a name, or ``class`` with the options of the schedule beside it; ``class`` may also be the dotted
        path of a function ``f(base, x, horizon)``, of a class that inherits from ``AbstractSchedule``, or of a
        scheduler of torch's
    :param min_lr: the rate never falls under this
    :param unit: ``step`` (the default) or ``pass``: what the rate changes after; none for ``plateau``
    :param frequency: change it after this many units; for ``plateau``, look at every n-th number only
    :param reset_state: empty the state of the optimizer, momentum among it, whenever a rate has changed
    :param stream: for ``plateau``: the stream that the number is of, by default ``valid``
    :param variable: its variable, by default ``loss``
    :param mode: ``min`` (the default) if less of it is better, ``max`` if more is
    :param aggregation: which number of a variable that has several; by default the ``mean`` or the only one
    :raise ConfigError: for an unknown schedule, option or unit, a value out of range, or if the model has no learning
        rate

    .. code-block:: yaml

        hooks:
          - LRSchedule: {schedule: {class: step, step_size: 100, gamma: 0.5}, min_lr: 1.0e-6}
    """

    training_only = True
    config_sections: ClassVar[Mapping[str, str]] = {"schedule": "schedule"}

    def __init__(
        self,
        schedule: str | Mapping[str, Any] | AbstractSchedule | Callable[..., Any],
        min_lr: float = 0.0,
        unit: Unit | None = None,
        frequency: int = 1,
        reset_state: bool = False,
        stream: str | None = None,
        variable: str | None = None,
        mode: Mode | None = None,
        aggregation: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._schedule, self._min_lr, self._unit, self._frequency = schedule, min_lr, unit, frequency
        self._reset_state = reset_state
        self._given = {"stream": stream, "variable": variable, "mode": mode, "aggregation": aggregation}
        self._mode = mode or "min"
        self._watched = WatchedNumber(self.name, stream or "valid", variable or "loss", self._mode, aggregation)
        self._watches = False

    def register_mainloop(self, main_loop: MainLoop) -> None:
        """Configure the model's learning rate."""
        super().register_mainloop(main_loop)
        learning_rate = learning_rate_of(main_loop.model, self.name)
        learning_rate.follow(
            self._schedule,
            self._min_lr,
            self._unit,
            self._frequency,
            self._reset_state,
            self._mode,
            path=self.config_path,
        )
        self._watches = learning_rate.watches
        if self._watches:
            self._watched.check_stream(main_loop)
            return
        for name, value in self._given.items():
            if value is not None:
                text = f"{self.name}: {name} is of the number that the schedule plateau watches; this one watches none"
                raise ConfigError(text, (*self.config_path, name))

    def requires(self) -> Collection[str | EpochNumber]:
        """Return the number that is watched."""
        return (self._watched.number,) if self._watches else ()

    def provides(self) -> Collection[str | EpochNumber]:
        """Return nothing."""
        return ()

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        """Hand a new value on."""
        value = self._watched.read(epoch_data) if self._watches else None
        if value is not None:
            learning_rate = learning_rate_of(self.main_loop.model, self.name)
            learning_rate.feed(value, self.main_loop.position.step)
