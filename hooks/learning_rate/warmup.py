"""Raise the learning rate slowly at the beginning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from emloop_mtl.abstract_hook import AbstractHook

from .of_model import learning_rate_of

if TYPE_CHECKING:
    from emloop_mtl.main_loop import MainLoop


class Warmup(AbstractHook):
    """Raise the learning rate in a straight line from 0 to its full value.

    Exactly one of the lengths is given. Schedules begin after the warm-up.

    :param steps: length in training steps
    :param passes: length in passes through the train stream
    :param percentage: length as a share of the whole run, 0 to 1; the run's length must be known
    :raise ConfigError: unless one length is given, in range, or if the model has no learning rate

    .. code-block:: yaml

        hooks:
          - Warmup: {percentage: 0.1}
          - StopAfter: {steps: 1000}
    """

    training_only = True

    def __init__(
        self,
        steps: int | None = None,
        passes: float | None = None,
        percentage: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._steps, self._passes, self._percentage = steps, passes, percentage

    def register_mainloop(self, main_loop: MainLoop) -> None:
        """Configure the model's learning rate."""
        super().register_mainloop(main_loop)
        learning_rate_of(main_loop.model, self.name).warm_up(
            steps=self._steps, passes=self._passes, percentage=self._percentage, path=self.config_path
        )
