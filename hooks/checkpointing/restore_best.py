"""Put the best weights back when a training has finished."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.checkpoint import newest_checkpoint
from emloop_mtl.constants import CHECKPOINT_FOLDER
from emloop_mtl.errors import ConfigError, nearest
from emloop_mtl.types import EpochNumber

from .save_best import SaveBest

if TYPE_CHECKING:
    from emloop_mtl.main_loop import MainLoop

log = logging.getLogger(__name__)


class RestoreBest(AbstractHook):
    """Put the weights that ``SaveBest`` has kept into the model when the training has finished.

    This happens after every hook has acted and the last checkpoint is written, wherever in the list the hook stands:
    checkpoints hold the state in which the training has ended, so that it can be made longer. Only weights are put
    back; an interrupted or failed training keeps its own. If no epoch was the best, since its number was nan or
    absent throughout, the weights stay as they are, with a warning.

    :param tag: the ``tag`` of the ``SaveBest``, or of a number that it watches ``also``
    :raise ConfigError: if no ``SaveBest`` with this tag is listed
    :raise CheckpointError: at the end, if its checkpoint is damaged or gone

    .. code-block:: yaml

        hooks:
          - Evaluate: {streams: [valid]}
          - ComputeStats: {variables: [loss]}
          - SaveBest: {stream: valid, variable: loss, mode: min}
          - RestoreBest
    """

    training_only = True

    def __init__(self, tag: str = "best", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._tag = tag

    def register_mainloop(self, main_loop: MainLoop) -> None:
        """Find the hook that keeps the best weights."""
        super().register_mainloop(main_loop)
        savers = {tag: hook for hook in main_loop.hooks if isinstance(hook, SaveBest) for tag in hook.tags}
        if self._tag not in savers:
            text = f"{self.name}: no SaveBest with the tag {self._tag!r} is listed{nearest(self._tag, savers)}"
            raise ConfigError(text, ("tag",))
        self._saver = savers[self._tag]

    def requires(self) -> Collection[str | EpochNumber]:
        """Return nothing."""
        return ()

    def provides(self) -> Collection[str | EpochNumber]:
        """Return nothing."""
        return ()

    def after_training(self, success: bool) -> None:
        """Put the best weights back once the end of a finished training is saved."""
        if self.main_loop.end == "finished":
            self.main_loop.when_saved(self._restore)

    def _restore(self) -> None:
        epoch = self._saver.epoch_of(self._tag)
        if epoch is None:
            log.warning("%s: no epoch was the best; the weights stay those of the end", self.name)
            return
        assert self.main_loop.output_dir is not None
        checkpoint = newest_checkpoint(Path(self.main_loop.output_dir) / CHECKPOINT_FOLDER, self._tag)
        if checkpoint.position.epoch != epoch:
            # Left by a training that went on from here before, to where this one has found nothing better.
            text = "%s: the best epoch was %i, but '%s' is of epoch %i; the weights stay those of the end"
            log.warning(text, self.name, epoch, checkpoint.path, checkpoint.position.epoch)
            return
        self.main_loop.model.load_state_dict(checkpoint.weights)
        log.info("%s: the weights are those of epoch %i, step %i", self.name, epoch, checkpoint.position.step)
