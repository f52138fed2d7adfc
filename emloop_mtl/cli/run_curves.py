"""All that the files of a run tell of how its numbers went."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..constants import TRAIN_STREAM
from .curve import Curve, Numbers
from .epoch_times import EpochTimes, read_profile
from .event_files import numbers_of
from .run_config import RunConfig
from .run_numbers import RunNumbers
from .written_path import written_path

USUAL_STREAMS = (TRAIN_STREAM, "valid", "test")


@dataclass
class RunCurves:
    """The numbers of a run by the step, and where its time went.

    :param run: what the folder of the run is called
    :param config: the config of the run
    :param curves: by the flat names of the numbers
    :param times: of each epoch
    :param ends: the steps with which epochs ended, and their numbers, both rising
    """

    run: str
    config: RunConfig
    curves: dict[str, Curve] = field(default_factory=dict)
    times: list[EpochTimes] = field(default_factory=list)
    ends: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))

    @classmethod
    def read(cls, run: str, path: Path) -> RunCurves:
        """Read the folder of a run.

        What ``WriteJSON`` has written comes first; numbers that it lacks are those of ``WriteCSV``, then those of
        ``WriteTensorBoard``.

        :raise ValueError: if what is there cannot be read
        """
        config = RunConfig.of(path, whole=True)
        result = cls(run, config)
        points: dict[str, dict[int, float]] = {}
        last_steps: dict[int, int] = {}
        numbers = RunNumbers(path, config)
        for source in (numbers.of_json(has_gaps=True), numbers.of_csv(has_gaps=True)):
            found: dict[str, dict[int, float]] = {}
            for (epoch, step), record in source or ():
                last_steps[epoch] = max(step, last_steps.get(epoch, 0))
                for name, value in record.items():
                    found.setdefault(name, {})[step] = value
            points = found | points
        folder = written_path(path, config, "WriteTensorBoard", "folder", "tensorboard")
        points = (numbers_of(folder) if folder is not None else {}) | points
        result.curves = {name: Curve.of(values) for name, values in points.items()}
        result.ends = _ends(last_steps)
        result.times = read_profile(path, config)
        return result

    @property
    def streams(self) -> set[str]:
        """The names of streams that the config tells, and those that most runs have."""
        found = {*USUAL_STREAMS, *self.config.section("eval")}
        loop = self.config.section("main_loop")
        found |= _texts([loop.get("train_stream_name"), *_list(loop.get("extra_streams"))])
        for hook in _list(self.config.data.get("hooks")):
            for arguments in hook.values() if isinstance(hook, Mapping) else ():
                found |= _texts(_list(arguments.get("streams")) if isinstance(arguments, Mapping) else ())
        return found

    def epochs_of(self, steps: Numbers) -> Numbers:
        """Return in which epoch steps lie, in fractions; what comes after the last one in one as long as that before.

        :raise ValueError: if the files do not tell
        """
        ends, epochs = self.ends
        if not ends:
            raise ValueError("nothing tells to which epochs steps belong; draw them with --x step")
        known = [*ends], [*map(float, epochs)]
        if len(ends) > 2 and ends[-1] - ends[-2] < ends[-2] - ends[-3] and epochs[-1] == epochs[-2] + 1:
            known[0][-1] = 2 * ends[-2] - ends[-3]  # the epoch has not come to its end
        return np.interp(steps, *known)


def _ends(last_steps: Mapping[int, int]) -> tuple[list[int], list[int]]:
    ends: dict[int, int] = {0: 0}
    for epoch in sorted(last_steps):
        if last_steps[epoch] > max(ends):
            ends[last_steps[epoch]] = epoch
    return (list(ends), list(ends.values())) if last_steps else ([], [])


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _texts(values: Iterable[Any]) -> set[str]:
    return {value for value in values if isinstance(value, str)}
