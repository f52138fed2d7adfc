"""One training of a grid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..config.config import Config
from ..config.located_error import LocatedError
from ..config.yaml_text import inline_yaml
from ..errors import ConfigError


@dataclass(frozen=True)
class Combination:
    """One training of a grid.

    :param name: of the folder of its run
    :param values: key -> value, of the keys that have a list
    :param overrides: all that the command line says, ``key.sub=value`` each
    :param config: the config with them
    """

    name: str
    values: Mapping[str, Any]
    overrides: tuple[str, ...]
    config: Config

    def __str__(self) -> str:
        return in_words(self.values)


def in_words(values: Mapping[str, Any]) -> str:
    """Return the values of keys as the command line has them."""
    return " ".join(f"{key}={inline_yaml(value)}" for key, value in values.items())


@contextmanager
def naming(values: Mapping[str, Any]) -> Iterator[None]:
    """Put the values of a combination in front of every ``ConfigError`` that is raised inside."""
    try:
        yield
    except ConfigError as error:
        raise LocatedError(f"with {in_words(values)}: {error}") from error
