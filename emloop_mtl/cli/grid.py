"""A grid: the cross product of lists of values."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from itertools import product
from pathlib import Path
from typing import Any

from ..config.config import Config
from ..config.load import load_config
from ..config.overrides import apply_overrides
from ..config.yaml_text import inline_yaml, read_yaml
from ..errors import ConfigError
from .combination import Combination, naming

MOST = 1000
"""Trainings of a grid; whoever writes down more has mostly not multiplied."""

NOT_IN_NAMES = re.compile(r"[^\w.+-]+")

LONGEST_NAME = 60
"""Characters of a folder's name: the system allows 255 bytes, and a character may take four."""

LOG_SUFFIX = ".log"
"""Behind the name of a run, the file beside it for what its process says."""


class Grid:
    """All combinations of the values that the command line lists.

    :param config_path: the config that they change
    :param settings: ``key=[a, b]`` for each key that has several values, ``key=value`` for others; applied in order
    :raise ConfigError: if the config cannot be read, or a setting is none, or has no place in it
    """

    def __init__(self, config_path: Path, settings: Sequence[str]) -> None:
        self.config_path = config_path
        self.base = load_config(config_path)
        if not config_path.is_file():
            raise ConfigError(f"{config_path}: is no regular file, so that the trainings cannot read it again")
        self._content = config_path.read_bytes()
        parsed = [_parsed(text) for text in settings]
        self.settings = [_override(key, value) for key, value in parsed]
        """What the command line says, in one way of writing."""
        self.lists = _lists(parsed)
        """Key -> its values."""
        self.short_names = _short_names(list(self.lists))
        """Key -> its last parts, as many as tell it from the others."""
        self.combinations = list(self._combinations(parsed))
        _check_different(self.combinations)

    @property
    def is_unchanged(self) -> bool:
        """Whether the file of the config holds what it did."""
        try:
            return self.config_path.read_bytes() == self._content
        except OSError:
            return False

    def _combinations(self, parsed: Sequence[tuple[str, Any]]) -> Iterator[Combination]:
        taken: set[str] = set()
        for chosen in product(*self.lists.values()):
            values = dict(zip(self.lists, chosen, strict=True))
            overrides = [_override(key, values[key] if isinstance(value, list) else value) for key, value in parsed]
            data, positions = deepcopy(self.base.data), dict(self.base.positions)
            with naming(values):
                apply_overrides(data, positions, overrides)
            config = Config(data, self.config_path, positions)
            yield Combination(_unique(self._name(values), taken), values, tuple(overrides), config)

    def _name(self, values: Mapping[str, Any]) -> str:
        """Return a name for a folder that says the values."""
        parts = (
            f"{_plain(self.short_names[key])}={_plain(value if isinstance(value, str) else inline_yaml(value))}"
            for key, value in values.items()
        )
        return ",".join(parts)[:LONGEST_NAME].lstrip(".")


def _parsed(text: str) -> tuple[str, Any]:
    """Return the key and the value of a setting."""
    where = f"command line: {text}"
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"{where}: write key=[a, b] for the values to try, or key=value for one that is fixed")
    if value.lstrip().startswith("[") and not value.rstrip().endswith("]"):
        raise ConfigError(f"{where}: the list has no end; put it in quotes, 'key=[a, b]', or write it without blanks")
    return key.strip(), read_yaml(value, lambda line, column: where)[0]


def _lists(parsed: Iterable[tuple[str, Any]]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for key, value in parsed:
        if not isinstance(value, list):
            continue
        if key in found:
            raise ConfigError(f"command line: {key} has a list of values twice; put them into one")
        if not value:
            raise ConfigError(f"command line: {key}=[]: there is no value to try; an empty list is written [[]]")
        found[key] = value
    if not found:
        raise ConfigError("there is nothing to combine; write key=[a, b] for the values to try")
    number = math.prod(map(len, found.values()))
    if number > MOST:
        raise ConfigError(f"these are {number} combinations, and {MOST} at most are trained; list fewer values")
    return found


def _short_names(keys: Sequence[str]) -> dict[str, str]:
    split = {key: key.split(".") for key in keys}
    short = {}
    for key, parts in split.items():
        for start in range(len(parts) - 1, -1, -1):
            end = parts[start:]
            if start == 0 or (
                not end[0].isdecimal() and sum(other[-len(end) :] == end for other in split.values()) == 1
            ):
                short[key] = ".".join(end)
                break
    return short


def _check_different(combinations: Iterable[Combination]) -> None:
    known: dict[str, Combination] = {}
    for each in combinations:
        text = json.dumps(each.config.data)
        if text in known:
            raise ConfigError(f"the combinations {str(known[text])!r} and {str(each)!r} are the same training")
        known[text] = each


def _unique(name: str, taken: set[str]) -> str:
    """Return a name that nothing else has, not even where a file system takes large letters for small ones."""
    found, number = name, 2
    while taken & (both := {found.casefold(), f"{found}{LOG_SUFFIX}".casefold()}):
        found, number = f"{name}_{number}", number + 1
    taken |= both
    return found


def _override(key: str, value: Any) -> str:
    return f"{key}={inline_yaml(value)}"


def _plain(text: str) -> str:
    return NOT_IN_NAMES.sub("_", text).strip("_")
