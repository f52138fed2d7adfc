"""The numbers that a run has written."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..constants import METRICS_FILE
from ..utils.flat_name import flat_name
from .best_score import BestScore
from .number_name import SCORE_PARTS, is_learning_rate
from .run_config import RunConfig
from .small_file import read_small
from .written_path import written_path

MOST = 2**25
"""Bytes of the files with numbers that are read; a hundred numbers in each of ten thousand epochs take as many."""

MODES = ("min", "max")

Place = tuple[int, int]
"""An epoch and its step."""

Record = tuple[Place, dict[str, float]]
"""The numbers of an epoch or a step, by their flat names."""


class RunNumbers:
    """The numbers of every epoch, as ``WriteJSON`` or else ``WriteCSV`` has written them.

    :param run: the folder of the run
    :param config: names the files
    """

    def __init__(self, run: Path, config: RunConfig) -> None:
        self._run = run
        self._config = config

    def best(self, saved: Place | None) -> BestScore | None:
        """Return the best value of the number that ``SaveBest`` watches; None where nothing tells.

        :param saved: when the best checkpoint was saved, if there is one
        :raise ValueError: if what is there cannot be read
        """
        watched = self._config.arguments_of("SaveBest")
        if watched is None:
            return None
        stream, variable, mode = watched.get("stream", "valid"), watched.get("variable", "loss"), watched.get("mode")
        aggregation = watched.get("aggregation")
        mode = "min" if mode is None else mode
        if mode not in MODES or not isinstance(stream, str) or not isinstance(variable, str):
            return None
        wanted = flat_name(stream, variable)
        found: BestScore | None = None
        for place, numbers in self._records(wanted):
            name = _find(numbers, wanted, aggregation)
            if name is None:
                continue
            score = BestScore(name, mode, numbers[name], *place)
            if place == saved:
                return score
            if found is None or (score.value < found.value if mode == "min" else score.value > found.value):
                found = score
        return found

    def at(self, place: Place | None = None) -> tuple[Place | None, dict[str, float]]:
        """Return the numbers of an epoch.

        :param place: the epoch; None for the last one
        :raise ValueError: if what is there cannot be read
        """
        found: dict[Place, dict[str, float]] = {}
        for each, numbers in self._records(""):
            if place in (None, each):
                found.setdefault(each, {}).update(numbers)
        if not found:
            return None, {}
        last = max(found)
        return last, found[last]

    def of_json(self, wanted: str = "", has_gaps: bool = False) -> Iterator[Record] | None:
        """Return the numbers of every line of ``WriteJSON``; None if it has written none.

        :param wanted: leave out lines that do not name it
        :param has_gaps: whether numbers that are not finite are nan; else they are left out
        :raise ValueError: if they cannot be read, also when a line is
        """
        text = self._read("WriteJSON", METRICS_FILE)
        return None if text is None else _placed(_of_json(text, wanted, has_gaps))

    def of_csv(self, has_gaps: bool = False) -> Iterator[Record] | None:
        """Return the numbers of every row of ``WriteCSV``, as ``of_json`` does."""
        text = self._read("WriteCSV", "training.csv")
        if text is None:
            return None
        arguments = self._config.arguments_of("WriteCSV") or {}
        delimiter = arguments.get("delimiter", ",")
        delimiter = delimiter if isinstance(delimiter, str) and len(delimiter) == 1 else ","
        return _placed(_of_csv(text, delimiter, has_gaps, absent=str(arguments.get("default_value", ""))))

    def _records(self, wanted: str) -> Iterator[Record]:
        """Yield the numbers of every epoch that may hold the wanted one."""
        hook, records = "WriteJSON", self.of_json(wanted)
        if records is None:
            hook, records = "WriteCSV", self.of_csv()
        has_steps = (self._config.arguments_of(hook) or {}).get("steps") is not None
        for place, numbers in records or ():
            if not (has_steps and _is_of_steps(numbers)):
                yield place, numbers

    def _read(self, hook: str, usual: str) -> str | None:
        """Return the text of a file that a hook writes into the folder of the run; None if there is none."""
        path = written_path(self._run, self._config, hook, "path", usual)
        if path is None:
            return None
        try:
            content = read_small(path, MOST)
            # What stands after the last line break is being written.
            return None if content is None else content[: content.rfind(b"\n") + 1].decode()
        except ValueError as error:
            raise ValueError(f"{path.name} {'is not UTF-8' if isinstance(error, UnicodeError) else error}") from error


def _find(numbers: Mapping[str, float], wanted: str, aggregation: Any) -> str | None:
    """Return the name of the watched number among those of an epoch; see ``epoch_book.find_number``."""
    if aggregation is not None:
        name = f"{wanted}/{aggregation}"
        return name if name in numbers else None
    if wanted in numbers:
        return wanted
    if f"{wanted}/mean" in numbers:
        return f"{wanted}/mean"
    several = [name for name in numbers if name.startswith(f"{wanted}/") and "/" not in name[len(wanted) + 1 :]]
    return several[0] if len(several) == 1 else None


def _is_of_steps(numbers: Mapping[str, float]) -> bool:
    """Whether a record is one of those with the training losses since the record before, not that of an epoch."""
    parts = [name.split("/") for name in numbers if not is_learning_rate(name)]
    return bool(parts) and all(
        each[0] == parts[0][0] and each[-1] == "loss" and 1 < len(each) < SCORE_PARTS for each in parts
    )


def _placed(records: Iterable[dict[str, float]]) -> Iterator[Record]:
    for record in records:
        epoch, step = record.pop("epoch", math.nan), record.pop("step", math.nan)
        record.pop("samples", None)
        if math.isfinite(epoch) and math.isfinite(step):
            yield (int(epoch), int(step)), record


def _of_json(text: str, wanted: str, has_gaps: bool) -> Iterator[dict[str, float]]:
    for line in text.splitlines():
        if wanted not in line:
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"a line of {METRICS_FILE} is no JSON") from error
        if isinstance(record, dict):
            numbers = ((name, math.nan if has_gaps and number is None else number) for name, number in record.items())
            yield {name: number for name, number in numbers if is_number(number) or number is math.nan}


def _of_csv(text: str, delimiter: str, has_gaps: bool, absent: str) -> Iterator[dict[str, float]]:
    try:
        for row in csv.DictReader(io.StringIO(text), delimiter=delimiter):
            numbers = {}
            for name, cell in row.items():
                try:
                    number = float(cell)
                except (TypeError, ValueError):
                    continue
                if cell == absent:
                    continue
                if name is not None and math.isfinite(number):
                    numbers[name] = number
                elif name is not None and has_gaps:
                    numbers[name] = math.nan
            yield numbers
    except (csv.Error, TypeError, ValueError) as error:
        raise ValueError(f"a table of numbers is no CSV: {error}") from error


def is_number(value: Any) -> bool:
    """Whether a value that was read is a finite number, and no more than a float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max
