"""Write the numbers of a training for TensorBoard."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emloop_mtl.errors import CheckpointError
from emloop_mtl.types import Position, State
from emloop_mtl.utils.files import make_folder, sync_file, sync_later

from .abstract_writer import AbstractWriter

PREFIX = "events.out.tfevents."
"""TensorBoard finds event files by this part of their name, and reads them in the order of their names."""

SUFFIX = ".emloop_mtl"
"""Tells our event files from those that others write into the same folder."""


class WriteTensorBoard(AbstractWriter):
    """Write all numbers of every epoch, by their flat names, as scalars for TensorBoard.

    The horizontal axis counts training steps. The learning rate is written too: as ``learning_rate``, or as
    ``learning_rate/group_0`` and so on if the optimizer has several parameter groups. TensorBoard's scalars have
    single precision. A training that is resumed cuts what was written after its checkpoint and goes on in a new file.

    :param folder: the folder, in the output folder
    :raise ConfigError: if the folder cannot be written, or holds another training

    .. code-block:: yaml

        hooks:
          - ComputeStats: {variables: [loss]}
          - WriteTensorBoard
    """

    def __init__(self, folder: str = "tensorboard", **kwargs: Any) -> None:
        super().__init__("folder", folder, **kwargs)
        self._files: dict[str, int] | None = None
        """Name -> size of each event file with records; None if there was no training yet."""
        self._file: Path | None = None
        self._records: Any = None

    def open(self) -> None:
        """Cut the event files to what the checkpoint speaks of, and begin a new one."""
        # tensorboardX's SummaryWriter hands its records to a thread and cannot tell how much of them has arrived
        # in the file; the layer below it writes at once.
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.record_writer import RecordWriter

        make_folder(self.path)
        found = sorted(self.path.glob(f"{PREFIX}*{SUFFIX}"))
        if self._files is None and found:
            raise self.taken(found[0])
        self._files = self._files or {}
        self._check_sizes(self._files)
        for file in found:
            if file.name not in self._files:
                file.unlink()
            elif file.stat().st_size > self._files[file.name]:
                with file.open("r+b") as old:
                    old.truncate(self._files[file.name])
        number = 1 + max((_number(file) for file in found), default=0)
        file = self.path / f"{PREFIX}{number:010d}{SUFFIX}"
        self._file, self._records = file, RecordWriter(str(file))
        self._records.write(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())
        self._records.flush()

    def write(self, position: Position, numbers: Mapping[str, float]) -> None:
        """Write the scalars of an epoch."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        assert self._file is not None
        assert self._files is not None
        scalars = dict(numbers) | self._learning_rates()
        if not scalars:
            return
        summary = Summary(value=[Summary.Value(tag=name, simple_value=number) for name, number in scalars.items()])
        self._records.write(Event(wall_time=time.time(), step=position.step, summary=summary).SerializeToString())
        self._records.flush()
        self._files[self._file.name] = self._file.stat().st_size

    def close(self) -> None:
        """Close the event file, or remove it if it has no records."""
        if self._file is None:
            return
        assert self._files is not None
        file, records = self._file, self._records
        self._file = self._records = None
        records.close()
        if file.name in self._files:
            sync_file(file)
        else:
            file.unlink(missing_ok=True)

    def state_dict(self) -> dict[str, State]:
        """Return the event files and their sizes."""
        if self._file is not None and self._file.name in (self._files or {}):
            with self._file.open("rb") as file:
                # The checkpoint must not outlive a record that it speaks of.
                self.main_loop.before_saved(sync_later(file.fileno(), self.name, self._file))
        return {"files": None if self._files is None else dict(self._files)}

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Go on after the last record of the checkpoint."""
        self._files = None if state["files"] is None else dict(state["files"])

    def _check_sizes(self, files: Mapping[str, int]) -> None:
        for name, size in files.items():
            file = self.path / name
            found = file.stat().st_size if file.exists() else 0
            if found < size:
                raise CheckpointError(
                    f"{self.name}: {file} has {found} bytes, but had {size} when the checkpoint was written: "
                    "it has been cut or removed; put it back to resume"
                )

    def _learning_rates(self) -> dict[str, float]:
        learning_rate = getattr(self.main_loop.model, "learning_rate", None)
        rates: list[float] = getattr(learning_rate, "current", [])
        if len(rates) == 1:
            return {"learning_rate": rates[0]}
        return {f"learning_rate/group_{index}": rate for index, rate in enumerate(rates)}


def _number(file: Path) -> int:
    digits = file.name.removeprefix(PREFIX).removesuffix(SUFFIX)
    return int(digits) if digits.isdecimal() else 0
