"""The moment of saving: hooks ask for checkpoints, the main loop writes them at the next border."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .checkpoint import save_checkpoint
from .constants import CHECKPOINT_FOLDER
from .errors import ConfigError
from .models.abstract_model import AbstractModel
from .types import Position, State


class Saver:
    """Keeps the tags that checkpoints were asked for under until they are written together.

    :param output_dir: folder of the run, None if it has none
    :param model: whose weights are saved
    """

    def __init__(self, output_dir: str | None, model: AbstractModel) -> None:
        self._output_dir = output_dir
        self._model = model
        self._asked: dict[str, None] = {}
        self._then: list[Callable[[], None]] = []
        self._written: dict[str, object] = {}

    @property
    def is_asked(self) -> bool:
        """Whether there is anything to write, or to do when that is written."""
        return bool(self._asked or self._then)

    @property
    def can_save(self) -> bool:
        """Whether checkpoints can be written at all."""
        return self._output_dir is not None and self._model.can_be_checkpointed

    def check(self) -> None:
        """Check that checkpoints can be written.

        :raise ConfigError: if the run has no folder, or the model cannot be checkpointed
        """
        if self._output_dir is None:
            raise ConfigError("checkpoints need a folder: give the main loop an output_dir")
        if not self._model.can_be_checkpointed:
            raise ConfigError(f"checkpoints need 'state_dict' and 'load_state_dict' of {type(self._model).__name__}")

    def ask(self, tag: str) -> None:
        """Ask for a checkpoint that is kept as ``tag``."""
        self.check()
        self._asked[tag] = None

    def when_written(self, act: Callable[[], None]) -> None:
        """Have ``act`` called once what was asked for is written, even if that is nothing."""
        self._then.append(act)

    def forget(self) -> None:
        """Forget what was asked for."""
        self._asked.clear()
        self._then.clear()

    def write(self, stamp: object, state: Callable[[], dict[str, State]], position: Position, finished: bool) -> None:
        """Write what was asked for, but for tags under which this very moment is kept already; then do what waits.

        :param stamp: tells this moment from all others
        :param state: makes the state of everything but the weights
        :param position: where the training stands
        :param finished: whether the training has ended regularly
        :raise CheckpointError: if the checkpoint cannot be written
        """
        tags = [tag for tag in self._asked if self._written.get(tag) != stamp]
        then = list(self._then)
        self.forget()
        if tags:
            assert self._output_dir is not None
            folder = Path(self._output_dir) / CHECKPOINT_FOLDER
            save_checkpoint(folder, tags, self._model.state_dict(), state(), position, finished)
            self._written.update(dict.fromkeys(tags, stamp))
        for act in then:
            act()
