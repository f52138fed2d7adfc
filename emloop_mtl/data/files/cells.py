"""Making values of the cells of a text file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...errors import ConfigError
from .column_settings import TEXT, ColumnSettings, default_float

BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}

LARGEST = 2**63
"""No integer of 64 bits is this large."""


def find_dtype(cells: Sequence[str], before: str | None) -> str | None:
    """Return the dtype that suits some cells, of which none is empty, and the cells before them.

    :param before: what was found for the cells before; None if all of them were empty
    """
    if before == TEXT or not cells:
        return before
    if before in (None, "bool") and all(cell in BOOLS for cell in cells):
        return "bool"
    together = "".join(cells)
    if before == "bool" or "_" in together or not together.isascii():  # which Python would take for numbers
        return TEXT
    if before in (None, "int64"):
        try:
            numbers = list(map(int, cells))
        except ValueError:
            pass
        else:
            return "int64" if min(numbers) >= -LARGEST and max(numbers) < LARGEST else TEXT
    try:
        list(map(float, cells))
    except ValueError:
        return TEXT
    return default_float()


def make_values(
    cells: Sequence[str], dtype: str, settings: ColumnSettings, column: str, place: Callable[[int], str]
) -> np.ndarray[Any, Any] | list[str]:
    """Return the values of cells.

    :param dtype: the dtype they shall have
    :param column: name of the column, for errors
    :param place: returns where a cell stands, by its number, for errors
    :raise ConfigError: for a cell that holds no such value, or an empty one where nothing says what stands for it
    """
    missing = settings.missing
    if settings.classes is None and dtype == TEXT:
        return list(cells) if missing is None else [cell or str(missing) for cell in cells]
    if "" in cells:
        if missing is None and (settings.classes is not None or not dtype.startswith("float")):
            kind = None if settings.classes is not None else dtype
            raise no_value(column, place(list(cells).index("")), kind, sorted({*cells} - {""}))
        mark = "nan" if missing is None else str(missing)
        if settings.classes is None:
            cells = [cell or mark for cell in cells]
    try:
        return _converted(cells, dtype, settings)
    except (ValueError, OverflowError, KeyError) as error:
        for number, cell in enumerate(cells):
            try:
                _converted([cell], dtype, settings)
            except (ValueError, OverflowError, KeyError):
                raise _misfit(cell, dtype, settings, column, place(number)) from error
        raise


def no_value(column: str, place: str, dtype: str | None, bools: Sequence[str] = ("False", "True")) -> ConfigError:
    """Return the error about a cell without a value.

    :param dtype: that of the column, None for classes
    :param bools: how bools are written in it
    """
    remedy = f"set missing: {{{column}: {'none' if dtype == TEXT else -100}}}, say, to mark it"
    if dtype == "bool":
        remedy += f", and classes: {{{column}: [{', '.join(map(repr, bools))}]}}"
    elif dtype not in (None, TEXT):
        remedy += f", or dtypes: {{{column}: float32}}, where it is nan"
    return ConfigError(f"{place}: column {column!r} has no value here; {remedy}", ("missing", column))


def _converted(cells: Sequence[str], dtype: str, settings: ColumnSettings) -> np.ndarray[Any, Any]:
    if settings.classes is not None:
        numbers: dict[str, int] = {name: number for number, name in enumerate(settings.classes)}
        if settings.missing is not None:
            numbers.setdefault("", settings.missing)
        return np.array([numbers[cell] for cell in cells], np.int64)
    if dtype == "bool":
        known = {**BOOLS, "1": True, "0": False}
        return np.array([known[cell] for cell in cells], np.bool_)
    if "_" in "".join(cells):
        raise ValueError
    if dtype.startswith("float"):
        with np.errstate(over="ignore"):
            return np.array(list(map(float, cells))).astype(dtype)
    return np.array(list(map(int, cells)), dtype)


def _misfit(cell: str, dtype: str, settings: ColumnSettings, column: str, place: str) -> ConfigError:
    """Return the error about a cell that is not what the settings of its column say."""
    argument, wanted = "dtypes", f"of dtype {dtype}"
    if settings.classes is not None:
        argument, wanted = "classes", f"one of the classes {', '.join(settings.classes[:20])}"
    elif settings.missing is not None and cell == str(settings.missing):
        argument = "missing"
    shown = repr(cell) if len(cell) <= 60 else f"{cell[:57]!r}…"
    return ConfigError(f"{place}: column {column!r}: {shown} is not {wanted}", (argument, column))
