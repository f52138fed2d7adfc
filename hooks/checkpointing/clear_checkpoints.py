"""Remove checkpoints when a training has finished."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.checkpoint import clear_checkpoints, list_checkpoints
from emloop_mtl.constants import CHECKPOINT_FOLDER, VERIFY_TAG
from emloop_mtl.errors import ConfigError
from emloop_mtl.types import EpochNumber
from emloop_mtl.utils.checkpoint_names import tag_of

from ..arguments import check_word
from ..words import Cleared
from .restore_best import RestoreBest
from .save_best import SaveBest
from .save_every import NAME

if TYPE_CHECKING:
    from emloop_mtl.main_loop import MainLoop

log = logging.getLogger(__name__)


class ClearCheckpoints(AbstractHook):
    """Remove checkpoints when the training has finished and its end is saved.

    An interrupted or failed training keeps all of them. Where the checkpoint of the end goes, ``emloop-mtl resume``
    leaves the run as it is, and cannot make it longer unless it goes on from an older one.

    :param what: ``intermediate``: those that ``SaveEvery`` has kept; ``all_but_best``: all but those of ``SaveBest``;
        ``all``: every one, once ``RestoreBest`` has put the best weights back
    :raise ConfigError: for anything else, without a folder, and where a ``RestoreBest`` further below or the section
        ``eval`` needs a checkpoint that would be gone

    .. code-block:: yaml

        hooks:
          - Evaluate: {streams: [valid]}
          - ComputeStats: {variables: [loss]}
          - SaveEvery: {keep: 3}
          - SaveBest: {stream: valid, variable: loss, mode: min}
          - ClearCheckpoints: {what: intermediate}
    """

    training_only = True

    def __init__(self, what: Cleared = "intermediate", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_word(self.name, "what", what, Cleared)
        self._what = what
        self._best: set[str] = set()

    def register_mainloop(self, main_loop: MainLoop) -> None:
        """Find out what stays, and check that nothing needs what goes."""
        super().register_mainloop(main_loop)
        main_loop.check_can_save()
        hooks = list(main_loop.hooks)
        self._best = {tag for hook in hooks if isinstance(hook, SaveBest) for tag in hook.tags}
        if self._what == "all_but_best" and not self._best:
            raise ConfigError(f"{self.name}: no SaveBest is listed, so nothing would stay: 'all' says that", ("what",))
        later = [hook for hook in hooks[hooks.index(self) :] if isinstance(hook, RestoreBest)]
        if self._what == "all" and later:
            text = f"{self.name} would remove what {later[0].name} restores: list {later[0].name} before {self.name}"
            raise ConfigError(text, ("what",))

    def requires(self) -> Collection[str | EpochNumber]:
        """Return nothing."""
        return ()

    def provides(self) -> Collection[str | EpochNumber]:
        """Return nothing."""
        return ()

    def before_training(self) -> None:
        """Check that no stream is to be scored with what will be gone.

        :raise ConfigError: if the config has a section ``eval``, and all checkpoints go
        """
        if self._what == "all" and (self.main_loop.config or {}).get("eval"):
            text = f"{self.name}: the section 'eval' is scored with a checkpoint, and none would be left"
            raise ConfigError(f"{text}: let the best stay with 'what: all_but_best'", ("what",))

    def after_training(self, success: bool) -> None:
        """Remove the checkpoints of a finished training once its end is saved."""
        if self.main_loop.end == "finished":
            self.main_loop.when_saved(self._clear)

    def _clear(self) -> None:
        assert self.main_loop.output_dir is not None
        folder = Path(self.main_loop.output_dir) / CHECKPOINT_FOLDER
        doomed = [path for path in list_checkpoints(folder) if self._goes(tag_of(path))]
        if doomed:
            clear_checkpoints(doomed, self.main_loop.position)
            log.info("%s: removed %i checkpoint%s", self.name, len(doomed), "s" if len(doomed) > 1 else "")

    def _goes(self, tag: str) -> bool:
        if tag.startswith(VERIFY_TAG):
            return False
        return {
            "intermediate": NAME.fullmatch(tag) is not None,
            "all_but_best": tag not in self._best,
            "all": True,
        }[self._what]
