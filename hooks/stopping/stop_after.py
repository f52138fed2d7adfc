"""End the training after a given length."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar

from emloop_mtl.abstract_hook import AbstractHook, TrainingTerminated
from emloop_mtl.errors import ConfigError
from emloop_mtl.types import EpochData, EpochNumber, State

from ..arguments import check_count, check_positive

if TYPE_CHECKING:
    from emloop_mtl.data.batch import Batch


class StopAfter(AbstractHook):
    """End the training after a number of epochs, of steps, or after some minutes, whichever comes first.

    Epochs end with their evaluation; steps and minutes cut an epoch short at the end of a training step. An epoch that
    ends with the last step is whole, so it is evaluated. Time counts over all resumes of a run, and only while it
    trains.

    :param epochs: training epochs; the zeroth is none
    :param steps: training steps
    :param minutes: minutes, need not be whole
    :raise ConfigError: if none of them is given, or one is not positive

    .. code-block:: yaml

        hooks:
          - StopAfter: {epochs: 20, minutes: 90}
    """

    training_only = True
    renamed: ClassVar[Mapping[str, str]] = {
        "iterations": "steps",
        "train_stream_name": "is gone: main_loop.train_stream_name tells",
    }

    def __init__(
        self, epochs: int | None = None, steps: int | None = None, minutes: float | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if epochs is None and steps is None and minutes is None:
            raise ConfigError(f"{self.name}: give at least one of epochs, steps and minutes")
        self._epochs = epochs if epochs is None else check_count(self.name, "epochs", epochs)
        self._steps = steps if steps is None else check_count(self.name, "steps", steps)
        self._seconds = inf if minutes is None else 60 * check_positive(self.name, "minutes", minutes)
        self._cuts_epochs = steps is not None or minutes is not None
        self._seconds_before = 0.0
        self._began: float | None = None
        self._deadline = inf

    def max_steps(self) -> int | None:
        """Return the limit in steps, None where neither steps nor the length of an epoch are known."""
        in_epochs = None if self._epochs is None else self.main_loop.steps_of(self._epochs)
        return min((limit for limit in (self._steps, in_epochs) if limit is not None), default=None)

    def requires(self) -> Collection[str | EpochNumber]:
        """Return nothing: only positions and times count."""
        return ()

    def provides(self) -> Collection[str | EpochNumber]:
        """Return nothing."""
        return ()

    def before_training(self) -> None:
        """Start the clock."""
        self._began = monotonic()
        self._deadline = self._began + self._seconds - self._seconds_before

    def before_epoch(self, epoch_id: int, train_streams: list[str], eval_streams: list[str]) -> None:
        """End a training that is resumed where it has all its epochs, steps or minutes already."""
        if train_streams:
            self._check(self.main_loop.position.epoch)

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        """End the training at the end of the last step, unless the epoch ends there too and does so itself."""
        if not self._cuts_epochs or not batch_data.ends_step:
            return
        if self.main_loop.is_training:
            reason = self._reason_to_end()
            if reason is not None and not self._ends_epoch(stream_name):
                raise TrainingTerminated(reason)

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        """End the training after the last epoch."""
        self._check(epoch_id)

    def after_training(self, success: bool) -> None:
        """Stop the clock."""
        self._seconds_before, self._began = self._elapsed(), None

    def state_dict(self) -> dict[str, State]:
        """Return the time that the training has taken, in seconds."""
        return {"seconds": self._elapsed()}

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Count on from the time that the training had taken."""
        self._seconds_before, self._began = float(state["seconds"]), None

    def _elapsed(self) -> float:
        return self._seconds_before + (0.0 if self._began is None else monotonic() - self._began)

    def _check(self, epochs: int) -> None:
        if self._epochs is not None and epochs >= self._epochs:
            raise TrainingTerminated(f"{self.name}: {epochs} epochs are done")
        reason = self._reason_to_end()
        if reason is not None:
            raise TrainingTerminated(reason)

    def _reason_to_end(self) -> str | None:
        if self._steps is not None:
            done = self.main_loop.position.step
            if done >= self._steps:
                return f"{self.name}: {done} steps are done"
        if self._deadline < inf and monotonic() >= self._deadline:
            return f"{self.name}: {self._seconds / 60:g} minutes are over"
        return None

    def _ends_epoch(self, stream_name: str) -> bool:
        return stream_name == self.main_loop.train_stream_name and self.main_loop.get_stream(stream_name).ends_epoch
