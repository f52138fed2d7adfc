"""Write the numbers of a training as a table."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from emloop_mtl.errors import CheckpointError, ConfigError, nearest
from emloop_mtl.types import EpochData, EpochNumber, Position, State
from emloop_mtl.utils.files import write_atomically
from emloop_mtl.utils.flat_names import POSITION, flat_name, flatten

from ..arguments import check_names, check_word
from ..numbers import any_numbers_of, is_loss
from ..words import OnFailure, OnUnwritable
from .abstract_file_writer import AbstractFileWriter
from .record_file import RecordFile, size_of
from .run_config import keep_config_beside
from .step_losses import LEARNING_RATE, learning_rates

log = logging.getLogger(__name__)


class WriteCSV(AbstractFileWriter):
    """Write one row per epoch: ``epoch``, ``step``, ``samples`` and the numbers, a column each by its flat name.

    Columns stand in the order in which numbers first appear. A number that appears later, of a stream that is evaluated
    every second epoch for example, gets a new column at the right; the file is then replaced as a whole by one whose
    rows have that column. Numbers have all their digits, nan and infinity are ``nan`` and ``inf``. A training that is
    resumed goes on after the last row of its checkpoint.

    :param path: the file, in the output folder
    :param delimiter: what stands between two values, one character
    :param default_value: what stands where an epoch lacks a number that others have
    :param variables: write these variables only, of all streams and with all their aggregations; ``learning_rate`` may
        be one of them
    :param on_unknown_type: what to do about a value that is no number: ``default`` leaves it out, ``warn`` (once) or
        ``error``
    :param on_missing_variable: what to do about a listed variable that no hook provides: ``error`` before the first
        batch, ``warn`` after the first epoch, or ``default``, which is silent. One that only some epochs have is no
        mistake
    :param steps: write a row with the training losses after every n-th step too, each the mean since the last such row
        over the labelled samples, called ``train/loss`` and ``train/<task>/loss``
    :param on_failure: what happens when a row cannot be written in the middle of a training: ``error`` ends it,
        ``warn`` lets it go on without that row
    :raise ConfigError: for a wrong argument, if the file cannot be written, or if it holds another training

    .. code-block:: yaml

        hooks:
          - Evaluate: {streams: [valid]}
          - ComputeStats: {variables: [loss]}
          - WriteCSV: {variables: [loss], default_value: nan}
    """

    renamed: ClassVar[Mapping[str, str]] = {"output_file": "path"}

    def __init__(
        self,
        path: str = "training.csv",
        delimiter: str = ",",
        default_value: str | float = "",
        variables: Sequence[str] | None = None,
        on_unknown_type: OnUnwritable = "default",
        on_missing_variable: OnUnwritable = "error",
        steps: int | None = None,
        on_failure: OnFailure = "error",
        **kwargs: Any,
    ) -> None:
        self._variables = None if variables is None else check_names(self.name, "variables", variables)
        super().__init__(path, steps=steps, on_failure=on_failure, variables=self._variables, **kwargs)
        if steps is not None and self._variables is not None and not any(map(is_loss, self._variables)):
            text = f"{self.name}: steps writes losses, but variables lists none: add 'loss', or leave steps out"
            raise ConfigError(text, ("steps",))
        if not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '"\r\n\0':
            raise ConfigError(f"{self.name}: delimiter must be one character, not {delimiter!r}", ("delimiter",))
        for name, action in (("on_unknown_type", on_unknown_type), ("on_missing_variable", on_missing_variable)):
            check_word(self.name, name, action, OnUnwritable)
        self._delimiter = delimiter
        self._default = str(default_value)
        self._on_unknown_type = on_unknown_type
        self._on_missing_variable = on_missing_variable
        self._warned: set[str] = set()
        self._columns: list[str] = []
        self._rows = 0

    def requires(self) -> Collection[str | EpochNumber]:
        """Return the numbers that were asked for by name, if a missing one is an error."""
        if self._on_missing_variable != "error" or self._main_loop is None or self._variables is None:
            return ()
        is_there = learning_rates(self.main_loop)
        return any_numbers_of(self, [name for name in self._variables if name != LEARNING_RATE or not is_there])

    def numbers_beside(self, rates: Mapping[str, float]) -> dict[str, float]:
        """Return the learning rates, unless only other variables are written."""
        return dict(rates) if self._variables is None or LEARNING_RATE in self._variables else {}

    def numbers_of(self, epoch_data: EpochData) -> dict[str, float]:
        """Return the numbers of the variables that are written."""
        chosen = epoch_data
        if self._variables is not None:
            self._check_missing(epoch_data)
            chosen = {
                stream: {name: numbers[name] for name in self._variables if name in numbers}
                for stream, numbers in epoch_data.items()
            }
        numbers = flatten(chosen)
        self._check_types(chosen, numbers)
        return numbers

    def open(self) -> None:
        """Open the file and cut rows and columns that came after the checkpoint."""
        if self._end:  # also where there were no columns yet
            self._restore_columns()
        super().open()
        keep_config_beside(self.main_loop, self.path)

    def write(self, position: Position, numbers: Mapping[str, float]) -> None:
        """Append the row of an epoch, after its new columns."""
        known = set(self._columns)
        new = [name for name in numbers if name not in known]
        if self._end and new:
            self._widen(new)
        elif not self._end:
            self._columns = new
            self.append(self._lines([[*POSITION, *new]]))
        values = [repr(numbers[name]) if name in numbers else self._default for name in self._columns]
        self.append(self._lines([[position.epoch, position.step, position.samples, *values]]))
        self._rows += 1

    def state_dict(self) -> dict[str, State]:
        """Return the columns, the number of rows, and where the next one begins."""
        return super().state_dict() | {"columns": list(self._columns), "rows": self._rows}

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Go on after the last row of the checkpoint."""
        super().load_state_dict(state)
        self._columns, self._rows = list(state["columns"]), state["rows"]

    def _widen(self, new: Sequence[str]) -> None:
        """Replace the file by one with further columns at the right."""
        assert self._file is not None
        table = self._read()
        if len(table) != 1 + self._rows:
            text = f"has {len(table) - 1} rows, but {self._rows} were written: something else has changed it"
            raise OSError(f"{self.name}: {self.path} {text}")
        gaps = [self._default] * len(new)
        content = self._lines([[*table[0], *new], *([*row, *gaps] for row in table[1:])])
        write_atomically(self.path, content)
        self._file.close()
        self._file = RecordFile(self.name, self.path, len(content))
        self._columns, self._end = [*self._columns, *new], len(content)

    def _restore_columns(self) -> None:
        """Take away the columns that were added after the checkpoint.

        :raise CheckpointError: if the table is not the one that the checkpoint speaks of
        """
        header = self._lines([[*POSITION, *self._columns]])
        if size_of(self.path) < (self._end or 0):
            return  # RecordFile tells of it
        with self.path.open("rb") as file:
            if file.read(len(header)) == header:
                return
        width = len(POSITION) + len(self._columns)
        content = self._lines(row[:width] for row in self._read()[: 1 + self._rows])
        if not content.startswith(header) or len(content) != self._end:
            raise CheckpointError(
                f"{self.name}: {self.path} is not the table that it was when the checkpoint was written; put that back "
                "to resume, and the delimiter and default_value that it was written with"
            )
        write_atomically(self.path, content)

    def _read(self) -> list[list[str]]:
        text = self.path.read_bytes().decode(errors="replace")
        return list(csv.reader(io.StringIO(text, newline=""), delimiter=self._delimiter))

    def _lines(self, rows: Iterable[Sequence[Any]]) -> bytes:
        text = io.StringIO()
        csv.writer(text, delimiter=self._delimiter, lineterminator="\n").writerows(rows)
        return text.getvalue().encode()

    def _check_missing(self, epoch_data: EpochData) -> None:
        if self._on_missing_variable != "warn" or self._rows:
            return
        known = {variable for numbers in epoch_data.values() for variable in numbers}
        if learning_rates(self.main_loop):
            known.add(LEARNING_RATE)
        for variable in self._variables or ():
            if variable not in known:
                log.warning("%s: no stream has the variable %r%s", self.name, variable, nearest(variable, known))

    def _check_types(self, epoch_data: EpochData, numbers: Mapping[str, float]) -> None:
        if self._on_unknown_type == "default":
            return
        for stream, variables in epoch_data.items():
            for variable, value in variables.items():
                several = value.items() if isinstance(value, Mapping) else [(None, value)]
                for aggregation, number in several:
                    name = flat_name(stream, variable, None if aggregation is None else str(aggregation))
                    if name not in numbers:
                        self._complain(name, number)

    def _complain(self, name: str, value: Any) -> None:
        text = f"{self.name}: {name!r} is no number ({type(value).__name__})"
        if self._on_unknown_type == "error":
            text += "; set on_unknown_type to 'default' or 'warn' to leave it out"
            raise ConfigError(text, ("on_unknown_type",))
        if name not in self._warned:
            log.warning("%s", text)
            self._warned.add(name)
