"""Where the time of a run went."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from ..constants import PROFILE_FILE
from .run_config import RunConfig
from .run_numbers import MOST, is_number
from .small_file import read_small
from .written_path import written_path

PARTS = ("reading", "model", "hooks", "saving")
"""What the time of an epoch goes to; what belongs to a stream is called ``reading/train``."""


LONGEST = 1e12
"""Seconds that count; more would be nonsense, and could not be added."""


class EpochTimes(NamedTuple):
    """The seconds that each part of an epoch took."""

    epoch: int
    seconds: dict[str, float]


def read_profile(run: Path, config: RunConfig) -> list[EpochTimes]:
    """Return the times of all epochs, by their numbers, as ``WriteProfile`` has written them; none if it has not.

    :raise ValueError: if they cannot be read
    """
    path = written_path(run, config, "WriteProfile", "path", PROFILE_FILE)
    content = None if path is None else read_small(path, MOST)
    found: dict[int, EpochTimes] = {}
    for line in (content or b"").split(b"\n")[:-1]:  # what stands after the last line break is being written
        try:
            record = json.loads(line)
            epoch = int(record["epoch"])
            seconds: Counter[str] = Counter()
            for name, value in record.items():
                part = name.partition("/")[0]
                if part in PARTS and is_number(value) and 0 <= value <= LONGEST:
                    seconds[part] += value
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise ValueError(f"a line of {PROFILE_FILE} holds no times") from error
        found[epoch] = EpochTimes(epoch, {part: seconds[part] for part in PARTS})
    return [found[epoch] for epoch in sorted(found)]
