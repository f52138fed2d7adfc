"""Keep a checkpoint of the latest state."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.types import EpochData, EpochNumber

from ..arguments import check_count
from ..frequency import ends_nth_step

if TYPE_CHECKING:
    from emloop_mtl.data.batch import Batch
    from emloop_mtl.main_loop import MainLoop


class SaveLatest(AbstractHook):
    """Save the training every n-th epoch and at its end, always keeping the latest checkpoint only.

    An interrupted training is saved by the main loop itself.

    :param every: save after every n-th epoch, epoch numbers being multiples of it; the zeroth counts
    :param steps: save after every n-th training step too, for long epochs
    :raise ConfigError: if the run has no output folder, or the model cannot be checkpointed

    .. code-block:: yaml

        hooks:
          - SaveLatest: {every: 1, steps: 1000}
    """

    training_only = True
    renamed: ClassVar[Mapping[str, str]] = {
        "n_epochs": "every",
        "on_save_failure": "is gone: a checkpoint that cannot be written always ends the training with an error",
        "on_failure": "is gone: a checkpoint that cannot be written always ends the training with an error",
    }

    TAG = "latest"

    def __init__(self, every: int = 1, steps: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._every = check_count(self.name, "every", every)
        self._steps = steps if steps is None else check_count(self.name, "steps", steps)

    def register_mainloop(self, main_loop: MainLoop) -> None:
        """Check that the training can be saved."""
        super().register_mainloop(main_loop)
        main_loop.check_can_save()

    def requires(self) -> Collection[str | EpochNumber]:
        """Return nothing."""
        return ()

    def provides(self) -> Collection[str | EpochNumber]:
        """Return nothing."""
        return ()

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        """Save after every n-th step."""
        if self._steps is not None and ends_nth_step(self.main_loop, batch_data, self._steps):
            self.main_loop.request_save(self.TAG)

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        """Save after every n-th epoch."""
        if epoch_id % self._every == 0:
            self.main_loop.request_save(self.TAG)

    def after_training(self, success: bool) -> None:
        """Save the end of a training."""
        if self.main_loop.end == "finished":
            self.main_loop.request_save(self.TAG)
