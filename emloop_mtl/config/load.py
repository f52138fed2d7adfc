"""Reads a config from a file and writes one as text."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from .config import Config
from .located_error import LocatedError
from .overrides import apply_overrides

__all__ = ["Config", "dump_config", "load_config"]

MAX_SIZE = 2**20
"""How many bytes a config may have: to read so much takes seconds, and nobody writes more."""


def load_config(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Config:
    """Read a config file.

    :param path: a YAML file in UTF-8
    :param overrides: ``key.sub=value`` each, applied in order; ``hooks.StopAfter.epochs=3`` finds a hook by name
    :raise LocatedError: if the file cannot be read, is no YAML or no mapping, or an override has no place in it
    """
    from .yaml_text import read_yaml  # loads all of ruamel.yaml, which only those with a config file need

    path = Path(path)
    data, positions = read_yaml(_read_text(path), lambda line, column: f"{path}:{line + 1}:{column + 1}")
    if data is None:
        raise LocatedError(f"{path}: the config is empty; it needs the sections 'dataset' and 'model'")
    if not isinstance(data, dict):
        raise LocatedError(f"{positions[()]}: a config is a mapping of sections, not a {type(data).__name__}")
    apply_overrides(data, positions, overrides)
    return Config(data, path, positions)


def dump_config(config: Config) -> str:
    """Return the config, overrides applied, as YAML without anchors; loading it gives the same data."""
    from .yaml_text import write_yaml

    return write_yaml(config.data)


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SIZE + 1)  # of a device or a pipe, too, which may have no end
    except IsADirectoryError as error:
        raise LocatedError(f"{path}: is a folder, not a config file") from error
    except FileNotFoundError as error:
        raise LocatedError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise LocatedError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(content) > MAX_SIZE:
        raise LocatedError(f"{path}: is longer than the {MAX_SIZE} bytes that a config may have")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line, column = before.count(b"\n") + 1, len(before) - before.rfind(b"\n")
        raise LocatedError(f"{path}:{line}:{column}: byte 0x{content[error.start]:02x} is not UTF-8") from error
