"""The numbers of an epoch, guarded against hooks that write over each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .errors import ConfigError
from .types import EpochData, EpochNumber


class EpochBook(dict[str, dict[str, Any]]):
    """Stream name -> variable -> number or ``{aggregation: number}``; a variable has one writer.

    :param streams: names of the streams that were run
    """

    def __init__(self, streams: Iterable[str] = ()) -> None:
        super().__init__()
        self.writer: object = None
        """Who writes at the moment; messages call it by its ``name``."""
        for stream in streams:
            self[stream] = {}

    def __setitem__(self, stream: str, numbers: Mapping[str, Any]) -> None:
        page = _Page(self, stream)
        if self.get(stream):
            raise ConfigError(f"{_name(self.writer)} replaces the numbers of stream {stream!r}: add to them instead")
        super().__setitem__(stream, page)
        for variable, value in numbers.items():
            page[variable] = value

    def setdefault(self, stream: str, numbers: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the numbers of ``stream``, entering ``numbers`` if there are none."""
        if stream not in self:
            self[stream] = numbers or {}
        return self[stream]


class _Page(dict[str, Any]):
    """The numbers of one stream, and who wrote each."""

    def __init__(self, book: EpochBook, stream: str) -> None:
        super().__init__()
        self._book = book
        self._stream = stream
        self._writers: dict[str, object] = {}

    def __setitem__(self, variable: str, value: Any) -> None:
        writer = self._writers.setdefault(variable, self._book.writer)
        if writer is not self._book.writer:
            raise ConfigError(
                f"{_name(self._book.writer)} writes over the number {variable!r} of stream {self._stream!r}, "
                f"which {_name(writer)} has written"
            )
        super().__setitem__(variable, value)

    def setdefault(self, variable: str, value: Any = None) -> Any:
        if variable not in self:
            self[variable] = value
        return self[variable]

    def update(self, *args: Any, **kwargs: Any) -> None:
        for variable, value in dict(*args, **kwargs).items():
            self[variable] = value


def _name(writer: object) -> str:
    return str(getattr(writer, "name", writer))


def find_number(epoch_data: EpochData, wanted: EpochNumber) -> float | None:
    """Return the wanted number, or None where the epoch has none.

    Without an aggregation the bare number is meant, else the ``mean``, else the only aggregation there is.

    :raise ConfigError: if what is there is no number
    """
    value = find_entry(epoch_data, wanted)
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError, RuntimeError) as error:  # the last: a tensor of several elements
        text = f"{wanted.variable!r} of stream {wanted.stream or 'any'!r} is no number, but a {type(value).__name__}"
        raise ConfigError(text, ("variable",)) from error


def find_entry(epoch_data: EpochData, wanted: EpochNumber) -> Any:
    """Return what stands where ``find_number`` looks, whatever it is; None where there is nothing."""
    streams = list(epoch_data) if wanted.stream is None else [wanted.stream]
    for stream in streams:
        value = epoch_data.get(stream, {}).get(wanted.variable)
        if isinstance(value, Mapping):
            only = next(iter(value)) if len(value) == 1 else "mean"
            value = value.get(wanted.aggregation or ("mean" if "mean" in value else only))
        elif wanted.aggregation is not None:
            value = None
        if value is not None:
            return value
    return None
