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

from .abstract_example_writer import AbstractExampleWriter
from .abstract_writer import AbstractWriter
from .examples import Examples
from .output_path import check_output_path
from .record_file import RecordFile

if TYPE_CHECKING:
    from emloop_mtl.main_loop import MainLoop


class AbstractRowsToCsv(AbstractExampleWriter, ABC):
    """A hook that writes rows about the examples of all its streams and epochs to one table.

    The table begins anew with every training; one that is resumed goes on after the last row of its checkpoint.

    :param columns: the headings
    :param path: the file, in the output folder or absolute
    """

    training_only = True
    renamed: ClassVar[Mapping[str, str]] = {"output_file": "path"}

    def __init__(self, columns: Sequence[str], path: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
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
        folder = main_loop.output_dir or ""
        self.path = Path(folder, self.path)
        for other in main_loop.hooks:
            if other is self or not isinstance(other, AbstractWriter | AbstractRowsToCsv):
                continue
            if self.path in (other.path, Path(folder, other.path)):  # the other may not know the folder yet
                text = f"{self.name}: {other.name} writes {self.path}, too: give one of them another path"
                raise ConfigError(text, ("path",))

    def before_training(self) -> None:
        """Begin the table, or go on after the last row of the checkpoint.

        :raise ConfigError: naming the file, if that fails
        """
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
            # The checkpoint must not outlive a row that it speaks of.
            self.main_loop.before_saved(self._file.sync_later())
        return {"end": self._end}

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Go on after the last row of the checkpoint."""
        self._end = state["end"]

    def _write(self, examples: Examples) -> None:
        assert self._file is not None
        self._file.append(self._format.encode(self._rows(examples)))

    @abstractmethod
    def _rows(self, examples: Examples) -> Iterator[Mapping[str, Any]]:
        """Yield the rows about the examples of a batch."""
