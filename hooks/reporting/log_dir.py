"""Log where the files of the run are."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.errors import ConfigError
from emloop_mtl.types import EpochData, EpochNumber

if TYPE_CHECKING:
    from emloop_mtl.main_loop import MainLoop

log = logging.getLogger(__name__)


class LogDir(AbstractHook):
    """Log the folder of the run before the training, after every epoch and at the end.

    :param output_dir: the folder; by default that of the main loop
    :raise ConfigError: without a folder

    .. code-block:: yaml

        hooks:
          - LogDir
    """

    training_only = True

    def __init__(self, output_dir: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._output_dir = output_dir

    def register_mainloop(self, main_loop: MainLoop) -> None:
        """Find the folder.

        :raise ConfigError: if the run has none
        """
        super().register_mainloop(main_loop)
        self._output_dir = main_loop.output_dir if self._output_dir is None else self._output_dir
        if self._output_dir is None:
            raise ConfigError(f"{self.name} needs a folder to tell of: give the main loop an output_dir")

    def requires(self) -> Collection[str | EpochNumber]:
        """Return nothing."""
        return ()

    def provides(self) -> Collection[str | EpochNumber]:
        """Return nothing."""
        return ()

    def before_training(self) -> None:
        """Log the folder."""
        self._log()

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        """Log the folder."""
        self._log()

    def after_training(self, success: bool) -> None:
        """Log the folder."""
        self._log()

    def _log(self) -> None:
        log.info("Output dir: %s", self._output_dir)
