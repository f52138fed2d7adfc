"""Write the numbers of a training as lines of JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from emloop_mtl.constants import METRICS_FILE
from emloop_mtl.types import EpochNumber, Position, State
from emloop_mtl.utils.flat_names import flat_name

from ..arguments import check_count
from ..frequency import ends_nth_step
from ..numbers import fetch_numbers, is_loss
from .abstract_writer import AbstractWriter
from .record_file import RecordFile, size_of

if TYPE_CHECKING:
    from emloop_mtl.data.batch import Batch

MOST_WAITING = 4096
"""Losses kept on the device before they are fetched; each takes up to 512 bytes there."""


class _Window:
    """The losses between two lines: sums by variable, and what is still to be fetched: variable, weight and loss.

    Sums grow batch by batch in float64, so that it does not matter when the losses are fetched.
    """

    def __init__(self, sums: Mapping[str, tuple[int, float]] | None = None) -> None:
        self.sums = dict(sums or {})
        self.waiting: list[tuple[str, int, Any]] = []

    def add(self, variable: str, weight: int, loss: float) -> None:
        weights, total = self.sums.get(variable, (0, 0.0))
        self.sums[variable] = weights + weight, total + weight * loss

    def means(self, stream: str) -> dict[str, float]:
        return {flat_name(stream, variable): total / weights for variable, (weights, total) in self.sums.items()}


class WriteJSON(AbstractWriter):
    """Write one JSON object per line and epoch: ``epoch``, ``step``, ``samples`` and all numbers by their flat names.

    The lines are strict JSON, so numbers that are not finite are written as null. A training that is resumed goes
    on after the last line of its checkpoint.

    :param path: the file, in the output folder
    :param steps: write the training losses after every n-th step too, each the mean since the last such line over
        the labelled samples, called ``train/loss`` and ``train/<task>/loss``; they are fetched from the device when
        an epoch ends or a checkpoint is written
    :raise ConfigError: if the file cannot be written, or holds another training

    .. code-block:: yaml

        hooks:
          - ComputeStats: {variables: [loss]}
          - WriteJSON: {steps: 100}
    """

    def __init__(self, path: str = METRICS_FILE, steps: int | None = None, **kwargs: Any) -> None:
        super().__init__("path", path, **kwargs)
        self._steps = steps if steps is None else check_count(self.name, "steps", steps)
        self._file: RecordFile | None = None
        self._end: int | None = None
        """Where the next line begins; None if there was no training yet."""
        self._window = _Window()
        self._due: list[tuple[Position, str, _Window]] = []
        self._waiting = 0

    def requires_in_training(self) -> Collection[str | EpochNumber]:
        """Return the losses, if they are to be written."""
        if self._steps is None or self._main_loop is None:
            return ()
        return list(filter(is_loss, self.main_loop.model.output_names))

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        """Note the losses of a batch that was trained on."""
        if self._steps is None or not self.main_loop.is_training:
            return
        position = self.main_loop.position
        size = batch_data.size or 0
        self._note("loss", batch_data, size)
        for task in batch_data.tasks:
            rows = batch_data.rows.get(task)
            self._note(f"{task}/loss", batch_data, size if rows is None else len(rows))
        if ends_nth_step(self.main_loop, batch_data, self._steps):
            self._due.append((position, stream_name, self._window))
            self._window = _Window()
        if self._waiting >= MOST_WAITING:
            self._write_due()

    def open(self) -> None:
        """Open the file and cut what comes after the checkpoint."""
        if self._end is None and size_of(self.path):
            raise self.taken(self.path)
        self._file = RecordFile(self.name, self.path, self._end or 0)
        self._end = self._file.end

    def write(self, position: Position, numbers: Mapping[str, float]) -> None:
        """Append the line of an epoch."""
        self._write_due()
        self._append(_line(position, position.epoch, numbers))

    def close(self) -> None:
        """Append the lines that are due and close the file."""
        if self._file is None:
            return
        try:
            self._write_due()
            self._file.sync()
        finally:
            self._file.close()
            self._file = None

    def state_dict(self) -> dict[str, State]:
        """Return where the next line begins, and the losses that wait for their line."""
        self._write_due()
        if self._file is not None:
            # The checkpoint must not outlive a line that it speaks of.
            self.main_loop.before_saved(self._file.sync_later())
        return {"end": self._end, "window": dict(self._window.sums)}

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Go on after the last line of the checkpoint."""
        self._end, self._window = state["end"], _Window(state["window"])
        self._due, self._waiting = [], 0

    def _note(self, variable: str, batch: Batch, weight: int) -> None:
        loss = batch.get(variable)
        if loss is None or not weight or getattr(loss, "ndim", 0) > 0:
            return
        detach = getattr(loss, "detach", None)
        self._window.waiting.append((variable, weight, loss if detach is None else detach()))
        self._waiting += 1

    def _write_due(self) -> None:
        """Fetch all losses at once and append the lines that are due."""
        windows = [*(window for _, _, window in self._due), self._window]
        numbers = iter(fetch_numbers(loss for window in windows for _, _, loss in window.waiting))
        for window in windows:
            for variable, weight, _ in window.waiting:
                number = next(numbers)
                window.add(variable, weight, math.nan if number is None else number)
            window.waiting.clear()
        due, self._due, self._waiting = self._due, [], 0
        lines = [_line(position, position.epoch + 1, window.means(stream)) for position, stream, window in due]
        if lines:
            self._append(b"".join(lines))

    def _append(self, lines: bytes) -> None:
        assert self._file is not None
        self._file.append(lines)
        self._end = self._file.end


def _line(position: Position, epoch: int, numbers: Mapping[str, float]) -> bytes:
    record: dict[str, float | None] = {"epoch": epoch, "step": position.step, "samples": position.samples}
    record |= {name: number if math.isfinite(number) else None for name, number in numbers.items()}
    return json.dumps(record, allow_nan=False, ensure_ascii=False).encode() + b"\n"
