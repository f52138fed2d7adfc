"""Write the numbers of a training for TensorBoard."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from emloop_mtl.errors import CheckpointError
from emloop_mtl.types import Position, State
from emloop_mtl.utils.files import make_folder, sync_file, sync_later

from ..words import OnFailure
from .abstract_writer import AbstractWriter
from .run_config import config_text

PREFIX = "events.out.tfevents."
"""TensorBoard finds event files by this part of their name, and reads them in the order of their names."""

SUFFIX = ".emloop_mtl"
"""Tells our event files from those that others write into the same folder."""


class WriteTensorBoard(AbstractWriter):
    """Write all numbers of every epoch, by their flat names, as scalars for TensorBoard.

    The horizontal axis counts training steps. The learning rate is written too: as ``learning_rate``, or as
    ``learning_rate/group_0`` and so on if the optimizer has several parameter groups. TensorBoard's scalars have
    single precision. A training that is resumed cuts what was written after its checkpoint and goes on in a new file.

    The config of the training is there as the text ``config``, once more where a training is resumed with another one.

    :param folder: the folder, in the output folder
    :param steps: write the training losses after every n-th step too, each the mean since the last such record over the
        labelled samples, called ``train/loss`` and ``train/<task>/loss``, and the learning rate
    :param on_failure: what happens when a record cannot be written in the middle of a training: ``error`` ends it,
        ``warn`` lets it go on, and tries again with the next
    :raise ConfigError: if the folder cannot be written, or holds another training

    .. code-block:: yaml

        hooks:
          - ComputeStats: {variables: [loss]}
          - WriteTensorBoard
    """

    def __init__(
        self, folder: str = "tensorboard", steps: int | None = None, on_failure: OnFailure = "error", **kwargs: Any
    ) -> None:
        super().__init__("folder", folder, steps=steps, on_failure=on_failure, **kwargs)
        self._files: dict[str, int] | None = None
        """Name -> size of each event file with records; None if there was no training yet."""
        self._config: str | None = None
        """The config that the event files hold, None if they hold none yet."""
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
        """Write the scalars of an epoch or a step."""
        self.write_steps([(position, numbers)])

    def write_steps(self, records: Sequence[tuple[Position, Mapping[str, float]]]) -> None:
        """Write the scalars of several steps, and wait for the disk once."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary
        from tensorboardX.summary import text as text_summary

        assert self._file is not None
        assert self._files is not None
        config = config_text(self.main_loop)
        new = [] if config is None or config == self._config else _as_code(config)
        is_empty = True
        for position, numbers in records:
            values = [Summary.Value(tag=name, simple_value=number) for name, number in numbers.items()]
            if new:
                values += text_summary("config", "".join(new)).value
                new = []
            if values:
                event = Event(wall_time=time.time(), step=position.step, summary=Summary(value=values))
                self._records.write(event.SerializeToString())
                is_empty = False
        if is_empty:
            return
        self._records.flush()
        self._files[self._file.name] = self._file.stat().st_size
        self._config = config

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
        """Return the event files and their sizes, and the config that they hold."""
        state = super().state_dict()
        if self._file is not None and self._file.name in (self._files or {}):
            self.sync_when_saved(self._sync_later)
        return state | {"files": None if self._files is None else dict(self._files), "config": self._config}

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Go on after the last record of the checkpoint."""
        super().load_state_dict(state)
        self._files = None if state["files"] is None else dict(state["files"])
        self._config = state["config"]

    def _sync_later(self) -> Callable[[], None]:
        assert self._file is not None
        with self._file.open("rb") as file:
            return sync_later(file.fileno(), self.name, self._file)

    def _check_sizes(self, files: Mapping[str, int]) -> None:
        for name, size in files.items():
            file = self.path / name
            found = file.stat().st_size if file.exists() else 0
            if found < size:
                raise CheckpointError(
                    f"{self.name}: {file} has {found} bytes, but had {size} when the checkpoint was written: "
                    "it has been cut or removed; put it back to resume"
                )


def _as_code(text: str) -> list[str]:
    """Return the lines of a text as what TensorBoard, which reads Markdown, shows as it is."""
    return [f"    {line}\n" for line in text.splitlines()]


def _number(file: Path) -> int:
    digits = file.name.removeprefix(PREFIX).removesuffix(SUFFIX)
    return int(digits) if digits.isdecimal() else 0
