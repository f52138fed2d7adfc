"""What all writers have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.errors import ConfigError
from emloop_mtl.types import EpochData, EpochNumber, Position
from emloop_mtl.utils.files import make_folder
from emloop_mtl.utils.flat_names import flatten

from ..numbers import warn_of_missed_numbers
from .output_path import check_output_path

if TYPE_CHECKING:
    from emloop_mtl.main_loop import MainLoop


class AbstractWriter(AbstractHook, ABC):
    """A hook that puts the numbers of every epoch, under their flat names, below one path of the output folder.

    Files are opened in ``open``, when a training begins, so that building a training leaves nothing behind.

    :param argument: what the path is called among the hook's arguments
    :param path: file or folder, relative to the output folder or absolute
    """

    training_only = True

    def __init__(self, argument: str, path: str, /, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._argument = argument
        self.path = Path(check_output_path(self.name, argument, path))
        """Where the numbers are written."""

    def register_mainloop(self, main_loop: MainLoop) -> None:
        """Find the path, and check that no other writer has it."""
        super().register_mainloop(main_loop)
        if main_loop.output_dir is None and not self.path.is_absolute():
            text = (
                f"{self.name}: {self._argument} {str(self.path)!r} is relative to the output folder, but there is none"
            )
            raise ConfigError(f"{text}; give the main loop an output_dir, or an absolute path here", (self._argument,))
        self.path = Path(main_loop.output_dir or "", self.path)
        for other in main_loop.hooks:
            if other is self:
                break
            if isinstance(other, AbstractWriter) and other.path == self.path:
                text = f"{self.name} and {other.name} both write {self.path}: give one another {self._argument}"
                raise ConfigError(text, (self._argument,))

    def requires(self) -> Collection[str | EpochNumber]:
        """Return nothing: whatever the epoch has is written."""
        return ()

    def provides(self) -> Collection[str | EpochNumber]:
        """Return nothing."""
        return ()

    def before_training(self) -> None:
        """Open the files.

        :raise ConfigError: naming the path, if that fails
        :raise CheckpointError: if a file of the training that is resumed has been cut or removed
        """
        warn_of_missed_numbers(self)
        try:
            make_folder(self.path.parent)
            self.open()
        except OSError as error:
            text = f"{self.name}: cannot write {error.filename or self.path}: {error.strerror}"
            raise ConfigError(text, (self._argument,)) from error

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        """Write the numbers of the epoch."""
        self.write(self.main_loop.position, flatten(epoch_data))

    def after_training(self, success: bool) -> None:
        """Close the files."""
        self.close()

    def taken(self, path: Path) -> ConfigError:
        """Return the error for records that are there although no training is resumed."""
        text = f"{self.name}: {path} exists and is of another training; remove it, or give another {self._argument}"
        return ConfigError(text, (self._argument,))

    @abstractmethod
    def open(self) -> None:
        """Begin to write, or go on after the last record of the checkpoint; records after it are cut."""

    @abstractmethod
    def write(self, position: Position, numbers: Mapping[str, float]) -> None:
        """Write one epoch, so that a reader of the files finds it when this returns.

        :param position: where the training stands
        :param numbers: by their flat names
        """

    @abstractmethod
    def close(self) -> None:
        """Close what ``open`` has opened, if it has; ``state_dict`` works on."""
