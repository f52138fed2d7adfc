"""Lower the learning rate during the training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from emloop_mtl.abstract_hook import AbstractHook

from .of_model import learning_rate_of

if TYPE_CHECKING:
    from emloop_mtl.main_loop import MainLoop


class LRSchedule(AbstractHook):
    """Make the learning rate follow a schedule over the whole run, whose length must be known.

    :param schedule: ``linear`` falls to 0, ``cosine_annealing`` along half a cosine to ``min_lr``
    :param min_lr: the rate never falls under this
    :param unit: ``step`` or ``pass``: what the rate changes after
    :param frequency: change it after this many units
    :raise ConfigError: for an unknown schedule or unit, a value out of range, or if the model has no learning rate

    .. code-block:: yaml

        hooks:
          - LRSchedule: {schedule: cosine_annealing, min_lr: 1.0e-6}
          - StopAfter: {steps: 1000}
    """

    training_only = True

    def __init__(
        self, schedule: str, min_lr: float = 0.0, unit: str = "step", frequency: int = 1, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._schedule, self._min_lr, self._unit, self._frequency = schedule, min_lr, unit, frequency

    def register_mainloop(self, main_loop: MainLoop) -> None:
        """Configure the model's learning rate."""
        super().register_mainloop(main_loop)
        learning_rate_of(main_loop.model, self.name).follow(
            self._schedule, self._min_lr, self._unit, self._frequency, path=self.config_path
        )
