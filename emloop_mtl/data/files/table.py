"""A file of columns that is read from its beginning to its end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .column_settings import ColumnSettings
from .sequences import Chunk


class Table(ABC):
    """A file whose columns must be decoded before they can be mapped.

    :param path: the file
    :param options: how it is to be read, as the subclass knows it
    """

    options: tuple[str, ...] = ()
    """Names of the options that it takes."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.path = path
        self.how = options

    @property
    @abstractmethod
    def names(self) -> list[str]:
        """Names of the columns."""

    @abstractmethod
    def chunks(self, wanted: Mapping[str, ColumnSettings], tell: Callable[[], object]) -> Iterator[dict[str, Chunk]]:
        """Yield some rows after the others, of the columns ``wanted``; no more than that is in memory at a time.

        :param tell: called again and again, since it may take long
        :raise DataError: for what cannot be read, with its place in the file
        :raise ConfigError: for a column that its settings do not suit
        """
