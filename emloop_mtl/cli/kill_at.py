"""The hook by which ``emloop-mtl verify-resume`` kills trainings."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection
from typing import TYPE_CHECKING

from ..abstract_hook import AbstractHook
from ..constants import VERIFY_TAG
from ..types import EpochNumber

if TYPE_CHECKING:
    from ..data.batch import Batch
    from ..main_loop import MainLoop


class KillAt(AbstractHook):
    """Kill the process at a chosen moment of its training, and keep the end of one that lives to see it.

    :param step: the training step to kill at; None to let the training live
    :param moment: ``saved``, when the step is done and a checkpoint of it on disk; ``done``, when it is done; or
        ``next``, when the next batch was run after that, be it trained on or evaluated
    """

    training_only = True

    SAVED_TAG = f"{VERIFY_TAG}-killed"
    """The tag of the checkpoint that is written to be killed right after it."""

    END_TAG = f"{VERIFY_TAG}-end"
    """The tag of the checkpoint that keeps the end, whether or not the config has a hook that does."""

    MOMENTS = ("saved", "done", "next")

    def __init__(self, step: int | None = None, moment: str = "saved") -> None:
        super().__init__()
        assert moment in self.MOMENTS
        self._step = step
        self._moment = moment
        self._is_past = False

    def register_mainloop(self, main_loop: MainLoop) -> None:
        """Check that the training can be saved."""
        super().register_mainloop(main_loop)
        main_loop.check_can_save()

    def requires(self) -> Collection[str | EpochNumber]:
        """Return nothing, so that nothing is computed that would not be without the hook."""
        return ()

    def provides(self) -> Collection[str | EpochNumber]:
        """Return nothing."""
        return ()

    def before_training(self) -> None:
        """Notice that the training goes on from the chosen step or from behind it."""
        self._is_past = self._step is not None and self.main_loop.position.step >= self._step

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        """Kill the process, or have it killed once the step is saved, if the moment has come."""
        loop = self.main_loop
        if self._is_past:
            if self._moment == "next":
                _kill()
        elif loop.is_training and batch_data.ends_step and loop.position.step == self._step:
            self._is_past = True
            if self._moment == "done":
                _kill()
            elif self._moment == "saved":
                loop.request_save(self.SAVED_TAG)
                loop.when_saved(_kill, in_thread=True)

    def after_training(self, success: bool) -> None:
        """Keep the end."""
        if self.main_loop.end == "finished":
            self.main_loop.request_save(self.END_TAG)


def _kill() -> None:
    """End this process as the system does that is out of memory: nothing of it gets a chance to clear up."""
    os.kill(os.getpid(), signal.SIGKILL)
