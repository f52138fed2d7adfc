"""What hooks have in common that write something about single examples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.errors import ConfigError
from emloop_mtl.types import EpochData, EpochNumber

from ..arguments import check_names, check_streams
from ..evaluation.batch_variable import holds
from .examples import Examples

if TYPE_CHECKING:
    from emloop_mtl.data.batch import Batch
    from emloop_mtl.main_loop import MainLoop


class AbstractExampleWriter(AbstractHook, ABC):
    """A hook that writes something about the examples of batches, each batch when the next one has been run.

    So the training does not wait for values that are on their way to the host.

    :param variables: names of what is written; of ``<task>/…`` the batches that carry the task
    :param id_variable: name of the variable that tells examples apart
    :param pad_mask_variable: name of the variable that is true where an entry of a sequence counts
    :param streams: names of the streams; None for all
    """

    def __init__(
        self,
        variables: Sequence[str],
        id_variable: str,
        pad_mask_variable: str | None = None,
        streams: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._variables = variables
        for name, value in (("id_variable", id_variable), ("pad_mask_variable", pad_mask_variable)):
            if not isinstance(value, str) and (value is not None or name == "id_variable"):
                raise ConfigError(f"{self.name}: {name} must be the name of a variable, not {value!r}", (name,))
        self._identity = id_variable
        self._mask = pad_mask_variable
        self._streams = None if streams is None else check_names(self.name, "streams", streams)
        self._waiting: Examples | None = None

    def register_mainloop(self, main_loop: MainLoop) -> None:
        """Check the streams."""
        super().register_mainloop(main_loop)
        check_streams(self, self._streams)

    def requires(self) -> Collection[str | EpochNumber]:
        """Return the variables."""
        return self._names()

    def requires_in_training(self) -> Collection[str | EpochNumber]:
        """Return the same, or nothing where batches that are trained on are left out."""
        takes_train = self._streams is None or self.main_loop.train_stream_name in self._streams
        return self.requires() if takes_train else ()

    def provides(self) -> Collection[str | EpochNumber]:
        """Return nothing."""
        return ()

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        """Write about the batch before, and begin to fetch this one."""
        if self._streams is not None and stream_name not in self._streams:
            return
        self._write_waiting()
        names = sorted(self._names(), key=lambda name: "/" not in name)
        # outputs of tasks first: of a batch that does not carry the task, nothing else is asked for
        if not all(holds(self, name, stream_name, batch_data) for name in names):
            return
        if self._takes(stream_name):
            self._waiting = Examples(self.name, stream_name, batch_data, self._identity, self._variables, self._mask)

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        """Write about the last batch."""
        self._write_waiting()

    def after_training(self, success: bool) -> None:
        """Write about the last batch of an epoch that was cut."""
        if success:
            self._write_waiting()
        self._waiting = None

    def _write_waiting(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._write(waiting)

    def _names(self) -> list[str]:
        return [self._identity, *self._variables, *([self._mask] if self._mask is not None else ())]

    def _takes(self, stream: str) -> bool:
        """Return whether something is written about the next batch of a stream."""
        return True

    @abstractmethod
    def _write(self, examples: Examples) -> None:
        """Write about the examples of a batch."""
