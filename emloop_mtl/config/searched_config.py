"""The config of a search, and those of its trials."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigError, KeyPath
from .check import check_config
from .config import Config
from .load import load_config
from .located_error import LocatedError
from .overrides import apply_overrides, set_entry
from .search_range import SearchRange
from .search_settings import SearchSettings

SEARCH = "search"
LEFT_OUT = (SEARCH, "eval")
"""Sections that a trial does not have: by the streams of ``eval`` nothing is chosen."""


def load_searched(path: Path, overrides: Sequence[str], section: Path | None) -> Config:
    """Read the config of a search.

    :param overrides: ``key.sub=value`` each
    :param section: a file that stands for the section ``search``
    :raise LocatedError: as ``load_config``
    """
    config = load_config(path)
    data, positions = config.data, config.positions
    if section is not None:
        part = load_config(section)
        positions = {place: where for place, where in positions.items() if place[:1] != (SEARCH,)}
        positions |= {(SEARCH, *place): where for place, where in part.positions.items()}
        data = {**data, SEARCH: part.data}
    apply_overrides(data, positions, overrides)
    return Config(data, path, positions)


def check_searched(config: Config) -> SearchSettings:
    """Check a config, and that it can have each value of each range; of numbers, the least and the greatest.

    :raise LocatedError: with the place of the range, or of its value
    """
    if config.data.get(SEARCH) is None:
        with config.located():
            raise ConfigError(
                f"missing section {SEARCH!r}, which says what to search for; --section names a file of it"
            )
    check_config(config)
    settings = SearchSettings.of(config.data[SEARCH])
    base = without_search(config)
    for each in settings.ranges:
        path: KeyPath = (SEARCH, "ranges", each.name)
        data = copy.deepcopy(base.data)
        for index, key in enumerate(each.keys):
            if key.partition(".")[0].strip() in LEFT_OUT:
                text = f"a trial has no section {key.partition('.')[0].strip()!r}, so there is nothing to choose in it"
                raise LocatedError(f"{_place(config, each, (*path, 'keys', index))}: {text}")
            set_entry(data, {}, key, each.edges[0][0], _place(config, each, (*path, "keys", index)))
        for value, place in each.edges:
            within = ("choices",) if config.knows((*path, "choices")) else ()
            where = _place(config, each, (*path, *within, *place))
            check_config(with_values(base, [each], {each.name: value}, where))
    return settings


def _place(config: Config, each: SearchRange, path: KeyPath) -> str:
    """Return what errors about a range begin with: its name says what they are about unless it is the key itself."""
    where = config.position(path)
    return where if each.keys == (each.name,) else f"{where}: {each.name}"


def without_search(config: Config) -> Config:
    """Return a config without what is said of the search, and with its seed."""
    data = {key: value for key, value in config.data.items() if key != SEARCH}
    return config.replaced({"seed": 0, **data})


def trial_config(config: Config, settings: SearchSettings, values: Mapping[str, Any], number: int) -> Config:
    """Return the config of a trial.

    :param values: name of a range -> its value
    """
    chosen = with_values(without_search(config), settings.ranges, values, f"trial {number}")
    return chosen.replaced({key: value for key, value in chosen.data.items() if key not in LEFT_OUT})


def with_values(config: Config, ranges: Sequence[SearchRange], values: Mapping[str, Any], where: str) -> Config:
    """Return a config in which the keys of ranges have these values.

    :param where: what errors about them begin with
    :raise LocatedError: if a key has no place in it
    """
    data, positions = copy.deepcopy(config.data), dict(config.positions)
    for each in ranges:
        for key in each.keys:
            set_entry(data, positions, key, copy.deepcopy(values[each.name]), where)
    return config.replaced(data, positions)
