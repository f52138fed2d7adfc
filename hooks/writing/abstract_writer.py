"""What all writers have in common."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.errors import ConfigError
from emloop_mtl.types import EpochData, EpochNumber, Position, State
from emloop_mtl.utils.disk_room import lack_of_room
from emloop_mtl.utils.files import make_folder
from emloop_mtl.utils.flat_names import flatten

from ..arguments import check_count
from ..numbers import warn_of_missed_numbers
from ..words import OnFailure
from .failure_guard import FailureGuard
from .output_path import ROOM, OutputPath, check_output_path, refuse_shared_paths
from .step_losses import StepLosses, learning_rates

if TYPE_CHECKING:
    from emloop_mtl.data.batch import Batch
    from emloop_mtl.main_loop import MainLoop

log = logging.getLogger(__name__)


class AbstractWriter(AbstractHook, ABC):
    """A hook that puts the numbers of every epoch, under their flat names, below one path of the output folder.

    Files are opened in ``open``, when a training begins, so that building a training leaves nothing behind. What
    cannot be written then is an error whatever ``on_failure`` says.

    :param argument: what the path is called among the hook's arguments
    :param path: file or folder, relative to the output folder or absolute
    :param steps: write the training losses after every n-th step too, each the mean since the last such record
    :param variables: the only losses of steps to write; None for all
    :param on_failure: what happens when writing fails in the middle of a training: ``error`` ends it, ``warn`` lets it
        go on without the records that could not be written, and tries again with the next
    """

    training_only = True

    reads_numbers = True
    """Whether the numbers of an epoch are what is written."""

    def __init__(
        self,
        argument: str,
        path: str,
        /,
        steps: int | None = None,
        on_failure: OnFailure = "error",
        variables: Collection[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._argument = argument
        self.path = Path(check_output_path(self.name, argument, path))
        """Where the numbers are written."""
        self._guard = FailureGuard(self, on_failure)
        self._step = 0
        """The step of the last record."""
        self._losses: StepLosses | None = None
        if steps is not None:
            self._losses = StepLosses(check_count(self.name, "steps", steps), variables)
        elif type(self).after_batch is AbstractWriter.after_batch:
            self.after_batch = MethodType(AbstractHook.after_batch, self)  # type: ignore[method-assign]  # costs nothing

    def register_mainloop(self, main_loop: MainLoop) -> None:
        """Find the path, and check that no other writer has it."""
        super().register_mainloop(main_loop)
        if main_loop.output_dir is None and not self.path.is_absolute():
            text = (
                f"{self.name}: {self._argument} {str(self.path)!r} is relative to the output folder, but there is none"
            )
            raise ConfigError(f"{text}; give the main loop an output_dir, or an absolute path here", (self._argument,))
        self.path = Path(main_loop.output_dir or "", self.path)
        refuse_shared_paths(self, self._argument)

    def output_paths(self) -> Sequence[OutputPath]:
        """Return where the numbers are written."""
        return [OutputPath.of([str(self.path)], self.path)]

    def requires(self) -> Collection[str | EpochNumber]:
        """Return nothing: whatever the epoch has is written."""
        return ()

    def requires_in_training(self) -> Collection[str | EpochNumber]:
        """Return the losses, if those of steps are to be written."""
        if self._losses is None or self._main_loop is None:
            return ()
        return self._losses.of_model(self.main_loop)

    def provides(self) -> Collection[str | EpochNumber]:
        """Return nothing."""
        return ()

    def before_training(self) -> None:
        """Open the files.

        :raise ConfigError: naming the path, if that fails, or if the disk is full
        :raise CheckpointError: if a file of the training that is resumed has been cut or removed
        """
        if self.reads_numbers:
            warn_of_missed_numbers(self)
        self._guard.begin()
        try:
            make_folder(self.path.parent)
            if lack := lack_of_room(self.path.parent, ROOM):
                raise ConfigError(f"{self.name}: no room for {self.path}: it needs {lack}", (self._argument,))
            self.open()
        except OSError as error:
            text = f"{self.name}: cannot write {error.filename or self.path}: {error.strerror or error}"
            raise ConfigError(text, (self._argument,)) from error

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        """Note the losses of a batch that was trained on."""
        if self._losses is None or not self.main_loop.is_training:
            return
        if self._losses.note(self.main_loop, stream_name, batch_data):
            self._write_due()

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        """Write the numbers of the epoch."""
        self._write_due()
        numbers = self._with_rates(self.numbers_of(epoch_data), learning_rates(self.main_loop))
        self._write_records([(self.main_loop.position, numbers)])

    def after_training(self, success: bool) -> None:
        """Write what is due, and close the files."""
        try:
            self._write_due()
        finally:
            with self.guarded():
                self.close()

    def taken(self, path: Path) -> ConfigError:
        """Return the error for records that are there although no training is resumed."""
        text = f"{self.name}: {path} exists and is of another training; remove it, or give another {self._argument}"
        return ConfigError(text, (self._argument,))

    def numbers_of(self, epoch_data: EpochData) -> dict[str, float]:
        """Return what is written of an epoch, by flat names: all its numbers, unless overridden."""
        return flatten(epoch_data)

    def numbers_beside(self, rates: Mapping[str, float]) -> dict[str, float]:
        """Return what is written beside the numbers of the training: the learning rates, unless overridden.

        :param rates: the learning rates by name
        """
        return dict(rates)

    def guarded(self) -> AbstractContextManager[None]:
        """A context in which errors of writing get the name of the hook, and are treated as ``on_failure`` says.

        :raise OSError: with ``on_failure: error``
        """
        return self._guard.writing(self.path)

    def sync_when_saved(self, sync_later: Callable[[], Callable[[], None]]) -> None:
        """Have records flushed to disk before the checkpoint that speaks of them; to be called in ``state_dict``.

        :param sync_later: returns what waits until all records that there are by now are on disk
        """
        self._guard.sync_when_saved(sync_later, self.path)

    @abstractmethod
    def open(self) -> None:
        """Begin to write, or go on after the last record of the checkpoint; records after it are cut."""

    @abstractmethod
    def write(self, position: Position, numbers: Mapping[str, float]) -> None:
        """Write one epoch or step, so that a reader of the files finds it when this returns.

        :param position: where the training stands
        :param numbers: by their flat names
        """

    def write_steps(self, records: Sequence[tuple[Position, Mapping[str, float]]]) -> None:
        """Write several steps, each as ``write`` would."""
        for position, numbers in records:
            self.write(position, numbers)

    @abstractmethod
    def close(self) -> None:
        """Close what ``open`` has opened, if it has; ``state_dict`` works on."""

    def state_dict(self) -> dict[str, State]:
        """Write the losses that are due, and return those that wait for their record; a writer adds its own state."""
        self._write_due()
        state: dict[str, State] = {"step": self._step}
        return state if self._losses is None else state | {"window": self._losses.state_dict()}

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Go on with the losses that wait for their record."""
        self._step = state.get("step", 0)
        if self._losses is not None:
            self._losses.load_state_dict(state.get("window") or {})  # none if steps are asked for since

    def _write_due(self) -> None:
        if self._losses is None:
            return
        due = self._losses.take()  # not guarded: what fails here is the device, and not the writer
        if due:
            self._write_records(
                [(each.position, self._with_rates(flatten({each.stream: each.means}), each.rates)) for each in due]
            )

    def _with_rates(self, numbers: dict[str, float], rates: Mapping[str, float]) -> dict[str, float]:
        return numbers | {name: rate for name, rate in self.numbers_beside(rates).items() if name not in numbers}

    def _write_records(self, records: Sequence[tuple[Position, Mapping[str, float]]]) -> None:
        """Write records, unless they lie before what was written already: in files and services steps never go back."""
        step = records[0][0].step
        if step < self._step:
            text = "%s: an evaluation at step %i is not written, since there are records up to step %i"
            log.warning(text, self.name, step, self._step)
            return
        with self.guarded():
            self.write_steps(records)
            self.tell_that_it_works()
        self._step = records[-1][0].step

    def tell_that_it_works(self) -> None:
        """Tell that records can be written, if the last ones could not."""
        self._guard.works(self.path)
