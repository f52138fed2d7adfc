"""Errors while a training is built."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..config.config import Config
from ..errors import ConfigError


@contextmanager
def building(config: Config) -> Iterator[None]:
    """Give mistakes their position in the config; a missing file is one too, since the config asked for it."""
    with config.located():
        try:
            yield
        except FileNotFoundError as error:
            raise ConfigError(f"no such file: {error.filename or error}") from error
