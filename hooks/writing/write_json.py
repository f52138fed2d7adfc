"""Write the numbers of a training as lines of JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from emloop_mtl.constants import METRICS_FILE
from emloop_mtl.types import Position, State

from .abstract_writer import AbstractWriter
from .record_file import RecordFile, size_of
from .run_config import keep_config_beside


class WriteJSON(AbstractWriter):
    """Write one JSON object per line and epoch: ``epoch``, ``step``, ``samples`` and all numbers by their flat names.

    The lines are strict JSON, so numbers that are not finite are written as null. A training that is resumed goes
    on after the last line of its checkpoint.

    :param path: the file, in the output folder
    :param steps: write the training losses after every n-th step too, each the mean since the last such line over
        the labelled samples, called ``train/loss`` and ``train/<task>/loss``; they are fetched from the device when
        an epoch ends or a checkpoint is written, and after a step every ten seconds
    :param on_failure: what happens when a line cannot be written in the middle of a training: ``error`` ends it,
        ``warn`` lets it go on without that line
    :raise ConfigError: if the file cannot be written, or holds another training

    .. code-block:: yaml

        hooks:
          - ComputeStats: {variables: [loss]}
          - WriteJSON: {steps: 100}
    """

    def __init__(
        self, path: str = METRICS_FILE, steps: int | None = None, on_failure: str = "error", **kwargs: Any
    ) -> None:
        super().__init__("path", path, steps=steps, on_failure=on_failure, **kwargs)
        self._file: RecordFile | None = None
        self._end: int | None = None
        """Where the next line begins; None if there was no training yet."""

    def open(self) -> None:
        """Open the file and cut what comes after the checkpoint."""
        if self._end is None and size_of(self.path):
            raise self.taken(self.path)
        self._file = RecordFile(self.name, self.path, self._end or 0)
        self._end = self._file.end
        keep_config_beside(self.main_loop, self.path)

    def write(self, position: Position, numbers: Mapping[str, float]) -> None:
        """Append a line."""
        self.write_steps([(position, numbers)])

    def write_steps(self, records: Sequence[tuple[Position, Mapping[str, float]]]) -> None:
        """Append a line for each record."""
        assert self._file is not None
        self._file.append(b"".join(_line(position, numbers) for position, numbers in records))
        self._end = self._file.end

    def close(self) -> None:
        """Close the file."""
        if self._file is None:
            return
        try:
            self._file.sync()
        finally:
            self._file.close()
            self._file = None

    def state_dict(self) -> dict[str, State]:
        """Return where the next line begins, and the losses that wait for their line."""
        state = super().state_dict()
        if self._file is not None:
            self.sync_when_saved(self._file.sync_later)
        return state | {"end": self._end}

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Go on after the last line of the checkpoint."""
        super().load_state_dict(state)
        self._end = state["end"]


def _line(position: Position, numbers: Mapping[str, float]) -> bytes:
    record: dict[str, float | None] = {"epoch": position.epoch, "step": position.step, "samples": position.samples}
    record |= {name: number if math.isfinite(number) else None for name, number in numbers.items()}
    return json.dumps(record, allow_nan=False, ensure_ascii=False).encode() + b"\n"
