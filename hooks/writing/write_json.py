"""Write the numbers of a training as lines of JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from emloop_mtl.constants import METRICS_FILE
from emloop_mtl.types import Position

from ..words import OnFailure
from .abstract_file_writer import AbstractFileWriter
from .run_config import keep_config_beside


class WriteJSON(AbstractFileWriter):
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
        self, path: str = METRICS_FILE, steps: int | None = None, on_failure: OnFailure = "error", **kwargs: Any
    ) -> None:
        super().__init__(path, steps=steps, on_failure=on_failure, **kwargs)

    def open(self) -> None:
        """Open the file, and keep the config with it."""
        super().open()
        keep_config_beside(self.main_loop, self.path)

    def write(self, position: Position, numbers: Mapping[str, float]) -> None:
        """Append a line."""
        self.write_steps([(position, numbers)])

    def write_steps(self, records: Sequence[tuple[Position, Mapping[str, float]]]) -> None:
        """Append a line for each record."""
        self.append(b"".join(_line(position, numbers) for position, numbers in records))


def _line(position: Position, numbers: Mapping[str, float]) -> bytes:
    record: dict[str, float | None] = {"epoch": position.epoch, "step": position.step, "samples": position.samples}
    record |= {name: number if math.isfinite(number) else None for name, number in numbers.items()}
    return json.dumps(record, allow_nan=False, ensure_ascii=False).encode() + b"\n"
