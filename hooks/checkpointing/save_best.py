"""Keep a checkpoint of the best state."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.errors import ConfigError
from emloop_mtl.types import EpochData, EpochNumber, State

from ..watched_number import WatchedNumber
from .save_latest import SaveLatest

if TYPE_CHECKING:
    from emloop_mtl.main_loop import MainLoop

log = logging.getLogger(__name__)


class SaveBest(AbstractHook):
    """Save the training whenever a number is better than in all epochs before, always keeping the best only.

    The first number counts as better than none; an epoch without the number, or in which it is nan, is never best.

    :param stream: the stream that the number is of
    :param variable: its variable, such as ``loss`` or ``model/all/macro_average``
    :param mode: ``min`` if less is better, ``max`` if more is
    :param aggregation: which number of a variable that has several; by default the ``mean`` or the only one
    :param tag: what the checkpoint is kept as; another one for each hook where several numbers are watched
    :raise ConfigError: if the run has no output folder, or the model cannot be checkpointed

    .. code-block:: yaml

        hooks:
          - Evaluate: {streams: [valid]}
          - ComputeStats: {variables: [loss]}
          - SaveBest: {stream: valid, variable: loss, mode: min}
    """

    training_only = True
    renamed: ClassVar[Mapping[str, str]] = {
        "condition": "mode",
        "objective": "mode",
        "model_name": "tag",
        "on_save_failure": "is gone: a checkpoint that cannot be written always ends the training with an error",
    }

    def __init__(
        self,
        stream: str = "valid",
        variable: str = "loss",
        mode: str = "min",
        aggregation: str | None = None,
        tag: str = "best",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._watched = WatchedNumber(self.name, stream, variable, mode, aggregation)
        if not re.fullmatch(r"\w+", tag) or tag == SaveLatest.TAG:
            raise ConfigError(
                f"{self.name}: {tag!r} cannot be the tag: take a word, but not {SaveLatest.TAG!r}", ("tag",)
            )
        self.tag = tag
        """What the checkpoint is kept as."""
        self._best: float | None = None
        self._epoch: int | None = None

    @property
    def epoch(self) -> int | None:
        """The best epoch so far, None if no epoch had the number."""
        return self._epoch

    def register_mainloop(self, main_loop: MainLoop) -> None:
        """Check that the training can be saved, and the stream that is watched."""
        super().register_mainloop(main_loop)
        main_loop.check_can_save()
        self._watched.check_stream(main_loop)

    def requires(self) -> Collection[str | EpochNumber]:
        """Return the number that is watched."""
        return (self._watched.number,)

    def provides(self) -> Collection[str | EpochNumber]:
        """Return nothing."""
        return ()

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        """Save if the number is better than ever."""
        value = self._watched.read(epoch_data)
        if value is None or (self._best is not None and not self._watched.is_better(value, than=self._best)):
            return
        log.info("%s: %s is %g in epoch %i, the best so far", self.name, self._watched, value, epoch_id)
        self._best, self._epoch = value, epoch_id
        self.main_loop.request_save(self.tag)

    def state_dict(self) -> dict[str, State]:
        """Return the best value and its epoch."""
        return {"value": self._best, "epoch": self._epoch}

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Go on comparing with the best value of the epochs before."""
        self._best, self._epoch = state["value"], state["epoch"]
