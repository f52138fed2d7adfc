"""Show how a training goes while it runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.data.per_kind import PerKind
from emloop_mtl.errors import ConfigError
from emloop_mtl.types import EpochData, EpochNumber
from emloop_mtl.utils.pick import pick
from emloop_mtl.utils.telling import telling

from ..arguments import check_positive
from ..numbers import fetch_numbers
from .progress_meter import ProgressMeter
from .status_line import StatusLine

if TYPE_CHECKING:
    from emloop_mtl.data.batch import Batch


class _Shown:
    """The losses that are shown of one kind of batch, and those of the last one."""

    __slots__ = ("losses", "pick", "step", "tasks")

    def __init__(self, tasks: Sequence[str], pick_losses: Callable[[Batch], Sequence[Any]]) -> None:
        self.tasks = tasks
        self.pick = pick_losses
        self.losses: Sequence[Any] = ()
        """Those of the last batch, still on their device; empty if they have been fetched."""
        self.step = 0


class ShowProgress(AbstractHook):
    """Show stream, steps, time left, speed and the loss of each task on stderr.

    On a terminal that is one line, refreshed in place and gone at the end; elsewhere a line of plain text from time
    to time and at the end of each stream. Between two of them nothing is read from the device.

    :param interval: seconds between two refreshes on a terminal
    :param plain_interval: seconds between two lines elsewhere; ``.inf`` leaves those at the ends of the streams
    :raise ConfigError: if one of them is not positive

    .. code-block:: yaml

        hooks:
          - ShowProgress: {plain_interval: 60}
    """

    def __init__(self, interval: float = 0.2, plain_interval: float = 10.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._live_interval = check_positive(self.name, "interval", interval)
        self._plain_interval = check_positive(self.name, "plain_interval", plain_interval)
        self._interval = self._plain_interval
        self._line: StatusLine | None = None
        self._meter: ProgressMeter | None = None
        self._walk: tuple[str, bool] | None = None
        """The stream under way, and whether it is trained on."""
        self._lengths: dict[tuple[str, bool], int] = {}
        """Steps of the streams that do not tell them, learnt from the first walk through each."""
        self._stream: str | None = None
        self._forget_losses()
        self._epoch_id: int | None = None
        self._is_partial = False
        self._samples = 0
        self._last = self._due = 0.0

    def requires(self) -> Collection[str | EpochNumber]:
        """Return the losses that the model has."""
        outputs = self.main_loop.model.output_names if self._main_loop is not None else ()
        return [name for name in outputs if name == "loss" or name.endswith("/loss")]

    def provides(self) -> Collection[str | EpochNumber]:
        """Return nothing."""
        return ()

    def before_training(self) -> None:
        """Look what stderr is."""
        self._line = StatusLine() if StatusLine.is_possible() else None
        self._interval = self._plain_interval if self._line is None else self._live_interval
        self._meter = self._walk = self._epoch_id = None
        self._last = monotonic()

    def before_epoch(self, epoch_id: int, train_streams: list[str], eval_streams: list[str]) -> None:
        """Note the number of the epoch."""
        self._epoch_id = epoch_id
        self._last = monotonic()

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        """Count, and refresh if it is time."""
        meter = self._meter
        if meter is None or stream_name != self._stream:
            self._end_walk()
            meter = self._meter = self._begin_walk(stream_name, batch_data)
        meter.step += batch_data.ends_step
        shown = self._kinds.of(batch_data)
        shown.step, shown.losses = meter.step, shown.pick(batch_data)
        self._last = now = monotonic()
        if now >= self._due:
            self._show()

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        """End the last stream of the epoch."""
        self._end_walk()
        if self._line is not None:
            self._line.erase()

    def after_training(self, success: bool) -> None:
        """Give the terminal back."""
        if self._line is not None:
            self._line.close()
            self._line = None
        elif success:
            self._end_walk(is_cut=True)
        self._meter = None
        self._forget_losses()

    def _begin_walk(self, stream: str, first: Batch) -> ProgressMeter:
        walk = stream, self.main_loop.is_training
        is_trained = walk[1]
        # A training that is resumed within an epoch goes on in the middle of a stream, unannounced.
        self._is_partial = self._epoch_id is None
        epoch, step, _, _ = self.main_loop.position
        if self._epoch_id is None:
            self._epoch_id = epoch + bool(step)
        total, done = self._length(walk), 0
        if self._is_partial:
            done = step - first.ends_step - epoch * (total or 0)
            if total is None or not is_trained or not 0 <= done < total:
                total, done = None, 0
        self._walk, self._stream = walk, stream
        self._forget_losses()
        self._due = self._last + self._interval
        return ProgressMeter(f"epoch {self._epoch_id}  {stream}", total, self._last, done)

    def _end_walk(self, is_cut: bool = False) -> None:
        meter, self._meter = self._meter, None
        if meter is None or self._walk is None:
            return
        if not self._is_partial and not is_cut:
            self._lengths[self._walk] = meter.step
        if self._line is None:
            meter.read(self._last, self._fetch_losses())
            _write(f"{meter.title}  {meter.summary(self._last)}")

    def _show(self) -> None:
        assert self._meter is not None
        self._meter.read(self._last, self._fetch_losses())
        if self._line is not None:
            self._line.show(self._meter.title, self._meter.share, self._meter.tail())
        else:
            _write(f"{self._meter.title}  {self._meter.tail()}")
        self._due = self._last + self._interval

    def _forget_losses(self) -> None:
        self._shown: list[_Shown] = []
        """What has been noted of each kind of batch, in the order in which the kinds came."""
        self._kinds = PerKind(self._find_shown)

    def _find_shown(self, batch: Batch) -> _Shown:
        tasks = [task for task in batch.tasks if f"{task}/loss" in batch]
        if tasks:
            shown = _Shown(tasks, pick([f"{task}/loss" for task in tasks]))
        else:
            shown = _Shown(["loss"], pick(["loss"])) if "loss" in batch else _Shown([], pick([]))
        self._shown.append(shown)
        return shown

    def _fetch_losses(self) -> dict[str, float]:
        """Return the last losses of the tasks since they were last fetched."""
        losses: dict[str, tuple[int, Any]] = {}
        for shown in self._shown:
            for task, loss in zip(shown.tasks, shown.losses, strict=False):
                if task not in losses or losses[task][0] <= shown.step:
                    losses[task] = shown.step, loss
            shown.losses = ()
        numbers = zip(losses, fetch_numbers([loss for _, loss in losses.values()]), strict=True)
        return {task: number for task, number in numbers if number is not None}

    def _length(self, walk: tuple[str, bool]) -> int | None:
        """Return the steps of a walk, None if they are not known."""
        stream, _ = walk
        loop = self.main_loop
        if stream == loop.train_stream_name and loop.epoch_steps is not None:
            return loop.epoch_steps
        if stream != loop.train_stream_name:
            try:
                info = loop.stream_info(stream)
            except ConfigError:  # a stream of its own that the dataset does not know
                info = None
            if info is not None and info.num_steps is not None:
                return info.num_steps
        if walk in self._lengths:
            return self._lengths[walk]
        told = getattr(loop.dataset, "num_batches", None) or {}
        return told.get(stream) if loop.fixed_epoch_size is None or stream != loop.train_stream_name else None


def _write(line: str) -> None:
    with telling("stderr"):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
