"""Report a number of a training to what searches for the best settings."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from emloop_mtl.abstract_hook import AbstractHook, TrainingTerminated
from emloop_mtl.types import EpochData, EpochNumber, Mode

from ..watched_number import WatchedNumber

if TYPE_CHECKING:
    from emloop_mtl.main_loop import MainLoop


class ReportTrial(AbstractHook):
    """Report a number after every training epoch, and end a training that is given up.

    ``emloop-mtl search`` appends it to the hooks of each of its trainings; it is listed in no config. The zeroth epoch
    is not reported, since the number of an untrained model says nothing of the settings. It remembers nothing: what
    was reported is kept by whom it was reported to, so that a training can be resumed without the hook.

    :param report: called with an epoch and its number; returns whether the training is given up
    :param stream: the stream that the number is of
    :param variable: its variable, such as ``loss`` or ``model/all/macro_average``
    :param mode: ``min`` if less is better, ``max`` if more is
    :param aggregation: which number of a variable that has several; by default the ``mean`` or the only one
    """

    training_only = True

    def __init__(
        self,
        report: Callable[[int, float], bool],
        stream: str = "valid",
        variable: str = "loss",
        mode: Mode = "min",
        aggregation: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._report = report
        self._watched = WatchedNumber(self.name, stream, variable, mode, aggregation)

    def register_mainloop(self, main_loop: MainLoop) -> None:
        """Check the stream that is watched."""
        super().register_mainloop(main_loop)
        self._watched.check_stream(main_loop)

    def requires(self) -> Collection[str | EpochNumber]:
        """Return the number that is watched."""
        return (self._watched.number,)

    def provides(self) -> Collection[str | EpochNumber]:
        """Return nothing."""
        return ()

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        """Report the number, and end the training if it is given up."""
        value = None if epoch_id == 0 else self._watched.read(epoch_data)
        if value is not None and self._report(epoch_id, value):
            raise TrainingTerminated(f"{self.name}: given up after epoch {epoch_id}, at {value:g}")
