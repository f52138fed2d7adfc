"""The numbers that a run has written."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..constants import METRICS_FILE
from ..utils.flat_name import flat_name
from .best_score import BestScore
from .run_config import RunConfig
from .small_file import read_small

MOST = 2**25
"""Bytes of the files with numbers that are read; a hundred numbers in each of ten thousand epochs take as many."""

MODES = ("min", "max")

Place = tuple[int, int]
"""An epoch and its step."""


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

    def _records(self, wanted: str) -> Iterator[tuple[Place, dict[str, float]]]:
        """Yield the numbers of every line that may hold the wanted one."""
        text, columns = self._read("WriteJSON", METRICS_FILE), None
        if text is None:
            text = self._read("WriteCSV", "training.csv")
            delimiter = (self._config.arguments_of("WriteCSV") or {}).get("delimiter", ",")
            columns = delimiter if isinstance(delimiter, str) and len(delimiter) == 1 else ","
        if text is None:
            return
        records = _of_json(text, wanted) if columns is None else _of_csv(text, columns)
        for record in records:
            epoch, step = record.pop("epoch", None), record.pop("step", None)
            record.pop("samples", None)
            if epoch is not None and step is not None:
                yield (int(epoch), int(step)), record

    def _read(self, hook: str, usual: str) -> str | None:
        """Return the text of a file that a hook writes into the folder of the run; None if there is none."""
        given = (self._config.arguments_of(hook) or {}).get("path", usual)
        path = self._run / given if isinstance(given, str) else self._run / usual
        try:
            if not path.resolve().is_relative_to(self._run.resolve()):
                return None
            content = read_small(path, MOST)
            # What stands after the last line break is being written.
            return None if content is None else content[: content.rfind(b"\n") + 1].decode()
        except (OSError, RuntimeError) as error:  # the second of links in a circle
            raise ValueError(f"{path.name} cannot be read") from error
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


def _of_json(text: str, wanted: str) -> Iterator[dict[str, float]]:
    for line in text.splitlines():
        if wanted not in line:
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"a line of {METRICS_FILE} is no JSON") from error
        if isinstance(record, dict):
            yield {name: number for name, number in record.items() if is_number(number)}


def _of_csv(text: str, delimiter: str) -> Iterator[dict[str, float]]:
    try:
        for row in csv.DictReader(io.StringIO(text), delimiter=delimiter):
            numbers = {}
            for name, cell in row.items():
                try:
                    number = float(cell)
                except (TypeError, ValueError):
                    continue
                if name is not None and math.isfinite(number):
                    numbers[name] = number
            yield numbers
    except (csv.Error, TypeError, ValueError) as error:
        raise ValueError(f"a table of numbers is no CSV: {error}") from error


def is_number(value: Any) -> bool:
    """Whether a value that was read is a finite number, and no more than a float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max
