"""Which columns of a file are read, and how."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ...errors import ConfigError, KeyPath, nearest
from .column_settings import ColumnSettings

Names = str | Sequence[str] | Mapping[str, str | Sequence[str]]
"""Columns, or source -> column or columns."""

Chosen = dict[str, tuple[str, ...]]
"""Source -> its columns; several stand side by side in it."""


def choose(names: Names, argument: str, known: Sequence[str]) -> Chosen:
    """Return which columns each source is made of.

    :param argument: what ``names`` are called in errors
    :param known: the columns of the file
    :raise ConfigError: for a column that it does not have
    """
    if isinstance(names, str):
        names = [names]
    if not isinstance(names, Mapping | Sequence):
        raise ConfigError(
            f"{argument}: columns are a list, or a mapping of sources to columns, not {names!r}", (argument,)
        )
    if isinstance(names, Mapping):
        chosen: Chosen = {}
        for source, columns in names.items():
            several = not isinstance(columns, str)
            if several and not (isinstance(columns, Sequence) and columns):
                raise ConfigError("a column, or a list of columns, is needed", (argument, source))
            for place, column in enumerate([columns] if isinstance(columns, str) else columns):
                _check(column, known, (argument, source, place) if several else (argument, source))
            chosen[str(source)] = (columns,) if isinstance(columns, str) else tuple(columns)
        return chosen
    for place, column in enumerate(names):
        _check(column, known, (argument, place))
        if column in names[:place]:
            raise ConfigError(f"column {column!r} stands here twice", (argument, place))
    return {column: (column,) for column in names}


def check_settings(
    given: Mapping[str, Mapping[str, Any] | None], known: Sequence[str], chosen: Chosen
) -> dict[str, ColumnSettings]:
    """Return the settings of every column that is read.

    :param given: ``dtypes``, ``missing`` and ``classes``, each with the columns that it speaks of
    :param known: the columns of the file
    :param chosen: those that are read
    :raise ConfigError: for settings that cannot be, with their place among the arguments
    """
    columns = list(dict.fromkeys(column for several in chosen.values() for column in several))
    for argument, settings in given.items():
        if settings is not None and not isinstance(settings, Mapping):
            raise ConfigError(f"{argument} is a mapping of columns, not {settings!r}", (argument,))
        for column in settings or ():
            _check(column, known, (argument, column))
            if column not in columns:
                raise ConfigError(f"column {column!r} is not read; add it to features or labels", (argument, column))
    by_column = {argument: settings or {} for argument, settings in given.items()}
    return {
        column: ColumnSettings.check(
            column, *(by_column[argument].get(column) for argument in ("dtypes", "missing", "classes"))
        )
        for column in columns
    }


def _check(column: Any, known: Collection[str], path: KeyPath) -> None:
    if column not in known:
        raise ConfigError(f"the file has no column {column!r}{nearest(str(column), known)}", path)
