"""What writers have in common that append their records to one file."""

from __future__ import annotations

from abc import ABC
from typing import Any

from emloop_mtl.types import State

from .abstract_writer import AbstractWriter
from .record_file import RecordFile, size_of


class AbstractFileWriter(AbstractWriter, ABC):
    """A writer of one file that grows record by record; a training that is resumed cuts what came after its checkpoint.

    :param path: the file, in the output folder
    """

    def __init__(self, path: str, **kwargs: Any) -> None:
        super().__init__("path", path, **kwargs)
        self._file: RecordFile | None = None
        self._end: int | None = None
        """Where the next record begins; None if there was no training yet."""

    def open(self) -> None:
        """Open the file and cut what comes after the checkpoint.

        :raise ConfigError: if it is of another training
        """
        if self._end is None and size_of(self.path):
            raise self.taken(self.path)
        self._file = RecordFile(self.name, self.path, self._end or 0)
        self._end = self._file.end

    def append(self, records: bytes) -> None:
        """Write records at the end of the file, all or none."""
        assert self._file is not None
        self._file.append(records)
        self._end = self._file.end

    def close(self) -> None:
        """Close the file once all is on disk."""
        if self._file is None:
            return
        try:
            self._file.sync()
        finally:
            self._file.close()
            self._file = None

    def state_dict(self) -> dict[str, State]:
        """Return where the next record begins, and the losses that wait for theirs."""
        state = super().state_dict()
        if self._file is not None:
            self.sync_when_saved(self._file.sync_later)
        return state | {"end": self._end}

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Go on after the last record of the checkpoint."""
        super().load_state_dict(state)
        self._end = state["end"]
