"""A config: nested plain data that knows where each of its entries was written."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import ConfigError, KeyPath
from .located_error import LocatedError

_PLAIN = (str, int, float, bool, type(None))


class Config:
    """Nested plain data with the position of every entry.

    :param data: the data; copied, with tuples as lists and paths as strings
    :param path: the file it was read from; None for a config made in Python
    :param positions: key path -> the text that an error about this entry begins with
    :raise ConfigError: if ``data`` holds anything but plain data
    """

    def __init__(
        self,
        data: Mapping[str, Any],
        path: str | os.PathLike[str] | None = None,
        positions: Mapping[KeyPath, str] | None = None,
    ) -> None:
        self.path = None if path is None else Path(path)
        self.data: dict[str, Any] = _plain(data, ())
        self.positions: dict[KeyPath, str] = dict(positions or {})

    def position(self, key_path: KeyPath) -> str:
        """Return where an entry was written, e.g. ``config.yaml:14:7`` or ``command line: seed=3``.

        :param key_path: keys from the root; if it is not in the config, its nearest ancestor that is answers
        """
        known = {_as_text(path): where for path, where in self.positions.items()}
        for length in range(len(key_path), -1, -1):
            found = known.get(_as_text(key_path[:length]))
            if found:
                return found
        return "config" if self.path is None else str(self.path)

    def knows(self, key_path: KeyPath) -> bool:
        """Tell whether an entry is in the config, wherever it was written."""
        node: Any = self.data
        for key in key_path:
            if isinstance(node, Mapping):
                entries = {str(name): value for name, value in node.items()}
            else:
                entries = {str(index): value for index, value in enumerate(node)} if isinstance(node, list) else {}
            if str(key) not in entries:
                return False
            node = entries[str(key)]
        return True

    def says_the_same(self, other: Config) -> bool:
        """Whether another config has the same data, wherever it was written."""
        return _is_same(self.data, other.data)

    def describe(self, error: ConfigError) -> str:
        """Return the one line that tells a user what is wrong and where.

        Example: ``config.yaml:14:7: hooks[2] SaveBest: unknown argument 'varible'; did you mean 'variable'?``
        """
        text = " ".join(str(error).split())
        if isinstance(error, LocatedError):
            return text
        place, names = self._place(error.path, text)
        for name in names:
            text = text.removeprefix(f"{name}: ")
        if _is_hook(error.path[:3]):
            for name in names:
                text = text.removeprefix(f"{name} ")
        return ": ".join(part for part in (self.position(error.path), place, text) if part)

    @contextmanager
    def located(self) -> Iterator[None]:
        """Put the position in front of every ``ConfigError`` that is raised inside."""
        try:
            yield
        except LocatedError:
            raise
        except ConfigError as error:
            raise LocatedError(self.describe(error), error.path) from error

    def replaced(self, data: Mapping[str, Any], positions: Mapping[KeyPath, str] | None = None) -> Config:
        """Return a config of the same file with other data."""
        return Config(data, self.path, self.positions if positions is None else positions)

    def _place(self, path: KeyPath, text: str) -> tuple[str, list[str]]:
        """Return ``path`` as text, and the names that the message need not repeat."""
        if path and re.search(rf"(argument|section) {re.escape(repr(path[-1]))}", text) and not _is_hook(path):
            path = path[:-1]
        place = ""
        for index, key in enumerate(path):
            if isinstance(key, int):
                place += f"[{key}]"
            elif _is_hook(path[: index + 1]):
                place += f" {key}"
            else:
                place += f".{key}" if place else key
        said = [place, *(key for key in path if isinstance(key, str))]
        hook = next((path[:end] for end in range(len(path), 2, -1) if _is_hook(path[:end])), None)
        if hook is None:
            return place, said
        name = str(hook[-1])
        arguments = self._at(hook)
        given = arguments.get("name") if isinstance(arguments, dict) else None
        return place, [*said, name, name.rpartition(".")[2], *([given] if isinstance(given, str) else [])]

    def _at(self, path: KeyPath) -> Any:
        value: Any = self.data
        for key in path:
            try:
                value = value[key]
            except (LookupError, TypeError):
                return None
        return value

    def __repr__(self) -> str:
        return f"Config({self.position(())})"


def _as_text(path: KeyPath) -> tuple[str, ...]:
    """Return keys as text: what a number calls in a config may have that number for its name elsewhere."""
    return tuple(map(str, path))


def _is_hook(path: KeyPath) -> bool:
    """Whether the last key of ``path`` is a hook's name."""
    return len(path) >= 3 and path[-3] == "hooks" and isinstance(path[-2], int) and isinstance(path[-1], str)


def _plain(value: Any, path: KeyPath) -> Any:
    if isinstance(value, Mapping):
        for key in value:
            if isinstance(key, bool) or not isinstance(key, str | int):
                raise ConfigError(f"a key must be text or an integer, got {key!r}", path)
        return {key: _plain(item, (*path, key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, (*path, index)) for index, item in enumerate(value)]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if not isinstance(value, _PLAIN):
        raise ConfigError(f"a config holds plain data only, got an object of class {type(value).__name__}", path)
    return value


def _is_same(one: Any, other: Any) -> bool:
    """Whether plain data is the same; nan, which is not equal to itself, is."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_is_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_is_same, one, other))
    return bool(one == other or (one != one and other != other))
