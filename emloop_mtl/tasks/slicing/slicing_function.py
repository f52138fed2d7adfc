"""What tells which rows belong to a slice."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor, nn

from ...constants import UID_SOURCE
from ...data.column_dataset import ColumnDataset
from ...errors import ConfigError, nearest
from ...utils.shown import shown

BASE = "base"
"""The slice of all rows, which there always is."""

_NAME = re.compile(r"[^./\[\]<\s]+")


class SlicingFunction:
    """A function of sources that tells which rows belong to a slice.

    It gets the sources that its arguments are called like: whole columns as a batch would hold them, [n, ...], or with
    ``by_row`` the values of one row. An argument with a default is left to it where there is no such source.

    :param function: returns a bool, or 0 or 1, for each row; with ``by_row`` for its row
    :param name: what the slice is called; by default like the function
    :param sources: the sources that it gets, in the order of its arguments, where these are called otherwise
    :param by_row: whether it is called for each row
    :raise ConfigError: for something that is no function, or a name that no slice can have

    .. code-block:: yaml

        class: SlicingFunction
        function: flowers.has_long_petals
        name: long
    """

    def __init__(
        self,
        function: Callable[..., Any],
        name: str | None = None,
        sources: Sequence[str] | None = None,
        by_row: bool = False,
    ) -> None:
        if not callable(function) or isinstance(function, type):
            text = f"a slicing function is a function of sources, in YAML its dotted path, not {shown(function)}"
            raise ConfigError(text, ("function",))
        self.function = function
        self.name = getattr(function, "__name__", type(function).__name__) if name is None else name
        self.by_row = bool(by_row)
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name) or hasattr(nn.ModuleDict, self.name):
            text = f"{shown(self.name)} cannot name a slice; set 'name' to a word without '.', '/', '[', ']', '<'"
            raise ConfigError(text, ("name",))
        if self.name == BASE:
            raise ConfigError(f"{BASE!r} is the slice of all rows, which there always is; rename this one", ("name",))
        if isinstance(sources, str):
            raise ConfigError(f"slice {self.name!r}: sources is a list; write [{sources}]", ("sources",))
        if sources is not None and not (
            isinstance(sources, Sequence) and sources and all(isinstance(source, str) for source in sources)
        ):
            text = f"sources must be a list of names, at least one, not {shown(sources)}"
            raise ConfigError(f"slice {self.name!r}: {text}", ("sources",))
        self._sources = None if sources is None else tuple(sources)
        self._arguments = {} if self._sources is not None else _arguments(function, self.name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself."""
        return self.function(*args, **kwargs)

    def rows_of(self, data: ColumnDataset) -> Tensor:
        """Return which rows of ``data`` belong to the slice, bool [n].

        :raise ConfigError: for a source that the data lacks, or if the function fails or returns anything but a bool
            for each row
        """
        args, kwargs = self._named_sources(data)
        where = f"slice {self.name!r} of data {data.name!r}"
        if self.by_row:
            told = [self._told(row, args, kwargs, where) for row in _rows(data, {*args, *kwargs})]
            return _as_bools([_as_bool(one, where) for one in told], len(data), where)
        return _as_bools(self._told(_read(data, {*args, *kwargs}), args, kwargs, where), len(data), where)

    def _told(self, values: Mapping[str, Any], args: Sequence[str], kwargs: Sequence[str], where: str) -> Any:
        try:
            return self.function(*(values[name] for name in args), **{name: values[name] for name in kwargs})
        except Exception as error:
            text = " ".join(f"{type(error).__name__}: {error}".split())
            raise ConfigError(f"{where}: the function fails: {text}") from error

    def _named_sources(self, data: ColumnDataset) -> tuple[Sequence[str], Sequence[str]]:
        """Return the sources that the function gets by position and by name."""
        known = data.sources
        if self.by_row:  # rows are not padded, so there is nothing to be masked
            known = [*data.features, *data.labels, UID_SOURCE]
        wanted = self._sources or [name for name, is_needed in self._arguments.items() if is_needed]
        for name in wanted:
            if name not in known:
                text = f"slice {self.name!r}: data {data.name!r} has no source {name!r}{nearest(name, known)}"
                raise ConfigError(text)
        if self._sources is not None:
            return self._sources, ()
        return (), [name for name in self._arguments if name in known]


@overload
def slicing_function(function: Callable[..., Any]) -> SlicingFunction: ...


@overload
def slicing_function(
    *, name: str | None = None, sources: Sequence[str] | None = None, by_row: bool = False
) -> Callable[[Callable[..., Any]], SlicingFunction]: ...


def slicing_function(
    function: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    sources: Sequence[str] | None = None,
    by_row: bool = False,
) -> Any:
    """Make a function a ``SlicingFunction``, as a decorator with or without arguments.

    :param function: the function that is decorated
    :param name: what the slice is called; by default like the function
    :param sources: the sources that it gets, where its arguments are called otherwise
    :param by_row: whether it is called for each row
    """
    if function is not None:
        return SlicingFunction(function)
    return lambda decorated: SlicingFunction(decorated, name, sources, by_row)


def read_slices(slices: Sequence[Callable[..., Any]]) -> tuple[SlicingFunction, ...]:
    """Return slicing functions of plain ones.

    :raise ConfigError: if there is none, one is no function, or two have one name
    """
    if isinstance(slices, str | Mapping) or callable(slices) or not isinstance(slices, Sequence) or not slices:
        text = f"slices must be a list of slicing functions, at least one, not {shown(slices)}"
        raise ConfigError(text, ("slices",))
    found: dict[str, SlicingFunction] = {}
    for index, given in enumerate(slices):
        try:
            one = given if isinstance(given, SlicingFunction) else SlicingFunction(given)
        except ConfigError as error:
            raise ConfigError(f"slices[{index}]: {error}", ("slices", index)) from error
        if one.name in found:
            raise ConfigError(f"two slices are called {one.name!r}; give one of them another name", ("slices", index))
        found[one.name] = one
    return tuple(found.values())


def _arguments(function: Callable[..., Any], name: str) -> dict[str, bool]:
    """Return the arguments of a function, and whether they have no default."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError) as error:
        raise ConfigError(f"slice {name!r}: its function does not tell its arguments; set 'sources'") from error
    open_ones = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)
    if not parameters or any(parameter.kind in open_ones for parameter in parameters):
        text = "its function has no arguments that are called like sources; set 'sources' to those that it gets"
        raise ConfigError(f"slice {name!r}: {text}", ("sources",))
    return {each.name: each.default is inspect.Parameter.empty for each in parameters}


def _rows(data: ColumnDataset, names: set[str]) -> Iterator[dict[str, Any]]:
    """Yield the values of each row, ragged ones without padding."""
    uid = data.uid or UID_SOURCE
    columns = {column.sources[0]: column for column in data.columns}
    wanted = {name: columns.get(uid if name == UID_SOURCE else name) for name in names}
    for index in range(len(data)):
        yield {name: index if column is None else column.row(index) for name, column in wanted.items()}


def _read(data: ColumnDataset, names: set[str]) -> dict[str, Any]:
    """Return whole columns, as a batch of all rows would hold them."""
    rows = torch.arange(len(data))
    uid = data.uid or UID_SOURCE
    columns: dict[str, Any] = {UID_SOURCE: rows}
    for column in data.columns:
        if not {uid if name == UID_SOURCE else name for name in names}.isdisjoint(column.sources):
            column.add_to(columns, rows)
    columns[UID_SOURCE] = columns.get(uid, rows)
    return columns


def _as_bool(told: Any, where: str) -> bool:
    """Return what a slicing function has returned for one row as a bool."""
    is_one = (isinstance(told, Tensor) and told.numel() == 1) or (
        isinstance(told, np.generic | np.ndarray) and told.size == 1
    )
    value = told.item() if is_one else told
    if isinstance(value, bool | int) and value in (0, 1):
        return bool(value)
    raise ConfigError(f"{where}: the function must return a bool for each row, or 0 or 1, not {shown(value)}")


def _as_bools(result: Any, length: int, where: str) -> Tensor:
    """Return what a slicing function has returned as a bool for each row."""
    try:
        values = result if isinstance(result, Tensor) else torch.from_numpy(np.asarray(result))
    except (TypeError, ValueError) as error:
        text = f"the function must return a bool for each row, not a {type(result).__name__}"
        raise ConfigError(f"{where}: {text}; set by_row: true if it is one of a single row") from error
    values = values.detach().cpu()
    if values.ndim == 2 and values.shape[1] == 1:
        values = values.squeeze(1)
    if values.shape != (length,):
        text = f"the function returned shape {list(values.shape)}, where a bool for each of {length} rows is needed"
        raise ConfigError(f"{where}: {text}; set by_row: true if it is one of a single row")
    if values.dtype is not torch.bool and not ((values == 0) | (values == 1)).all():
        raise ConfigError(f"{where}: the function must return bools, or 0 and 1, not {values.dtype} with other values")
    return values.bool()
