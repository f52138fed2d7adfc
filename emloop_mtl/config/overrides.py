"""Overrides from the command line: ``key.sub=value``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..errors import KeyPath, nearest
from .located_error import LocatedError

SECTIONS = ("seed", "dataset", "model", "main_loop", "hooks", "eval", "search")
"""The sections of a config, in the order in which it is read."""


def apply_overrides(data: dict[str, Any], positions: dict[KeyPath, str], overrides: Iterable[str]) -> None:
    """Set values in ``data`` and note in ``positions`` that they came from the command line.

    A list's items are named by index; a hook also by its class or its ``name:``. The last key may be new, all keys
    before it must exist.

    :param overrides: ``key.sub=value`` each; the value is YAML, such as ``0.1``, ``[valid, test]`` or ``{epochs: 3}``
    :raise LocatedError: if an override has no ``=``, its value is no YAML, or its key no place in the config
    """
    for override in overrides:
        where = f"command line: {override}"
        key, equals, value = override.partition("=")
        if not equals:
            raise LocatedError(f"{where}: an override is written key=value, e.g. model.optimizer.lr=0.1")
        entry = _Entry(data, positions, key, where)
        from .yaml_text import read_yaml  # see load_config

        entry.set(read_yaml(value, lambda line, column, where=where: where)[0])  # type: ignore[misc]


def set_entry(data: dict[str, Any], positions: dict[KeyPath, str], key: str, value: Any, where: str) -> None:
    """Set one value as an override does.

    :param key: keys joined by dots
    :param where: what errors about the value begin with
    :raise LocatedError: if the key has no place in the config
    """
    _Entry(data, positions, key, where).set(value)


class _Entry:
    def __init__(self, data: dict[str, Any], positions: dict[KeyPath, str], key: str, where: str) -> None:
        self._data = data
        self._positions = positions
        self._where = where
        self._parts = key.strip().split(".")
        if not all(self._parts):
            raise self._error("the key is empty, or a part of it between two dots")

    def set(self, value: Any) -> None:
        target: Any = self._data
        path: KeyPath = ()
        parts = self._parts
        while True:
            key, taken = self._find(target, path, parts)
            if taken == len(parts):
                break
            parts = parts[taken:]
            target, path = self._enter(target, key, path, parts)
        if isinstance(target, list) and not parts[0].isdecimal():
            entry, path = target[int(key)], (*path, key)
            name = entry if isinstance(entry, str) else next(iter(entry))
            arguments: dict[str | int, Any] = {}
            target[int(key)] = arguments
            target, key = arguments, name
        target[key] = value
        path = (*path, key)
        for known in [known for known in self._positions if known[: len(path)] == path]:
            del self._positions[known]
        self._positions[path] = self._where

    def _find(self, target: Any, path: KeyPath, parts: Sequence[str]) -> tuple[str | int, int]:
        """Return the key that ``parts`` begin with, and how many of them it takes: a key may contain dots."""
        if isinstance(target, list):
            return self._find_item(target, path, parts)
        if not isinstance(target, dict):
            raise self._error(f"{_show(path)} is {target!r}, which has no keys")
        for taken in range(len(parts), 0, -1):
            name = ".".join(parts[:taken])
            if name in target:
                return name, taken
            if name.isdecimal() and int(name) in target:
                return int(name), taken
        name = parts[0]
        if len(parts) > 1 and not (path == () and name in SECTIONS):
            known = {*map(str, target), *(SECTIONS if path == () else ())}
            raise self._error(f"{_show(path)} has no {name!r}{nearest(name, known)}")
        return name, 1

    def _find_item(self, target: list[Any], path: KeyPath, parts: Sequence[str]) -> tuple[int, int]:
        index = parts[0]
        if index.isdecimal():
            if int(index) < len(target):
                return int(index), 1
            raise self._error(f"{_show(path)} has {len(target)} entries, counted from 0")
        if path[-1:] != ("hooks",):
            raise self._error(f"{_show(path)} is a list; name an entry by its index, counted from 0")
        for taken in range(len(parts), 0, -1):
            name = ".".join(parts[:taken])
            found = [number for number, entry in enumerate(target) if name in _hook_names(entry)]
            if len(found) > 1:
                both = " and ".join(f"{_show(path)}.{number}" for number in found)
                raise self._error(f"{name!r} is the name of several hooks: {both}")
            if found:
                return found[0], taken
        known = [name for entry in target for name in _hook_names(entry)]
        raise self._error(f"no hook is called {index!r}{nearest(index, known)}")

    def _enter(self, target: Any, key: str | int, path: KeyPath, rest: Sequence[str]) -> tuple[Any, KeyPath]:
        """Step into an entry; one without a value becomes a mapping, a hook's name a mapping of its arguments."""
        is_list = isinstance(target, list)
        value = target[key] if is_list else target.get(key)
        if is_list and path[-1:] == ("hooks",):
            if isinstance(value, str):
                value = target[key] = {value: None}
            if isinstance(value, dict) and len(value) == 1:
                name = next(iter(value))
                by_name = not self._names_hook(name, rest)
                return self._enter(value, name, (*path, key), rest) if by_name else (value, (*path, key))
        if value is None:
            value = target[key] = [] if path == () and key == "hooks" else {}
        return value, (*path, key)

    @staticmethod
    def _names_hook(name: Any, rest: Sequence[str]) -> bool:
        return any(".".join(rest[:taken]) == name for taken in range(1, len(rest) + 1))

    def _error(self, text: str) -> LocatedError:
        return LocatedError(f"{self._where}: {text}")


def _hook_names(entry: Any) -> set[str]:
    """The names by which an entry of ``hooks`` can be meant: its class, short or dotted, and its ``name:``."""
    if isinstance(entry, str):
        return {entry, entry.rpartition(".")[2]}
    if not isinstance(entry, dict) or len(entry) != 1:
        return set()
    [(name, arguments)] = entry.items()
    given = arguments.get("name") if isinstance(arguments, dict) else None
    return {str(name), str(name).rpartition(".")[2]} | ({given} if isinstance(given, str) else set())


def _show(path: KeyPath) -> str:
    return ".".join(map(str, path)) or "the config"
