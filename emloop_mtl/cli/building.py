"""Errors while a training is built and run for the first time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..config.config import Config
from ..data.empty_stream_error import EmptyStreamError
from ..errors import ConfigError, EmloopError, KeyPath
from ..utils.model_note import ModelNote


@contextmanager
def building(config: Config) -> Iterator[None]:
    """Give mistakes their position in the config; a missing file is one too, since the config asked for it."""
    with config.located():
        try:
            yield
        except FileNotFoundError as error:
            raise ConfigError(f"no such file: {error.filename or error}") from error


@contextmanager
def running(config: Config, is_early: Callable[[], bool]) -> Iterator[None]:
    """Give mistakes their position in the config; a batch that the model cannot run is one, too, if it is an early one.

    Modules that do not fit each other, or not the labels, fail at once, and so do functions of a task. What fails later
    is no fault of the config. Neither is a stream that has no data, unless it is an early one.

    :param is_early: whether nothing is lost by taking what has failed for a mistake
    """
    with config.located():
        try:
            yield
        except EmptyStreamError as error:
            if not is_early():
                raise
            raise ConfigError(str(error), ("dataset",)) from error
        except Exception as error:
            note = ModelNote.on(error)
            if note is None or not (isinstance(error, ConfigError) or is_early()):
                raise
            paths: list[KeyPath] = [*note.paths, *(path[:1] for path in reversed(note.paths))]
            place = next((("model", *path) for path in paths if config.knows(("model", *path))), ("model",))
            text = " ".join(str(error).split())
            if not isinstance(error, EmloopError):
                text = f"{type(error).__name__}: {text} {note} (-v shows the traceback)"
            raise ConfigError(text, place) from error
