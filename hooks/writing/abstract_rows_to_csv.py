"""What hooks have in common that write rows about examples to a table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from emloop_mtl.errors import ConfigError
from emloop_mtl.types import State
from emloop_mtl.utils.files import make_folder
from emloop_mtl.utils.row_format import RowFormat

from ..words import OnFailure
from .abstract_example_writer import AbstractExampleWriter
from .examples import Examples
from .failure_guard import FailureGuard
from .output_path import OutputPath, check_output_path, check_writable, refuse_shared_paths
from .record_file import RecordFile

if TYPE_CHECKING:
    from emloop_mtl.main_loop import MainLoop


class AbstractRowsToCsv(AbstractExampleWriter, ABC):
    """A hook that writes rows about the examples of all its streams and epochs to one table.

    The table begins anew with every training; one that is resumed goes on after the last row of its checkpoint.

    :param columns: the headings
    :param path: the file, in the output folder or absolute
    :param on_failure: what happens when rows cannot be written in the middle of a training
    """

    training_only = True
    renamed: ClassVar[Mapping[str, str]] = {"output_file": "path"}

    def __init__(self, columns: Sequence[str], path: str, on_failure: OnFailure = "error", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._guard = FailureGuard(self, on_failure, "rows")
        self.path = Path(check_output_path(self.name, "path", path))
        """Where the rows are written."""
        self._format = RowFormat("csv", columns)
        self._file: RecordFile | None = None
        self._end = 0

    def register_mainloop(self, main_loop: MainLoop) -> None:
        """Find the file, and check that no other writer has it."""
        super().register_mainloop(main_loop)
        if main_loop.output_dir is None and not self.path.is_absolute():
            text = f"{self.name}: path {str(self.path)!r} is relative to the output folder, but there is none"
            raise ConfigError(f"{text}; set --output-dir or the main loop's output_dir, or an absolute path", ("path",))
        self.path = Path(main_loop.output_dir or "", self.path)
        refuse_shared_paths(self, "path")

    def output_paths(self) -> Sequence[OutputPath]:
        """Return where the rows are written."""
        return [OutputPath.of([str(self.path)], self.path)]

    def before_training(self) -> None:
        """Begin the table, or go on after the last row of the checkpoint.

        :raise ConfigError: naming the file, if that fails, or if the disk is full
        """
        self._guard.begin()
        check_writable(self.name, "path", self.path.parent, self.path)
        try:
            make_folder(self.path.parent)
            self._file = RecordFile(self.name, self.path, self._end)
            if not self._end:
                self._file.append(self._format.header)
        except OSError as error:
            text = f"{self.name}: cannot write {error.filename or self.path}: {error.strerror}"
            raise ConfigError(text, ("path",)) from error

    def after_training(self, success: bool) -> None:
        """Close the table."""
        if self._file is None:
            return
        try:
            super().after_training(success)
            with self._guard.writing(self.path):
                self._file.sync()
        finally:
            self._end = self._file.end
            self._file.close()
            self._file = None

    def state_dict(self) -> dict[str, State]:
        """Return where the next row begins."""
        if self._file is not None:
            self._write_waiting()
            self._end = self._file.end
            self._guard.sync_when_saved(self._file.sync_later, self.path)
        return {"end": self._end}

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Go on after the last row of the checkpoint."""
        self._end = state["end"]

    def _write(self, examples: Examples) -> None:
        assert self._file is not None
        rows = self._format.encode(self._rows(examples))  # not guarded: what fails here is no failure to write
        with self._guard.writing(self.path):
            self._file.append(rows)
            self._guard.works(self.path)

    @abstractmethod
    def _rows(self, examples: Examples) -> Iterator[Mapping[str, Any]]:
        """Yield the rows about the examples of a batch."""
