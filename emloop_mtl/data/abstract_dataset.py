"""The dataset protocol."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import ConfigError, nearest
from ..types import Stream

__all__ = ["AbstractDataset", "Stream", "get_stream"]

STREAM_SUFFIX = "_stream"


class AbstractDataset(ABC):  # noqa: B024 - any set of streams will do, also none
    """A source of named streams: every method ``<name>_stream()`` provides the stream ``<name>``.

    A stream is an iterable of batches, each a mapping of source names to values of equal length. A constructor
    that names ``config_str`` receives the ``dataset`` section as YAML text, as emloop's datasets expect it. A
    dataset whose streams draw no global random numbers may say so by an attribute ``deterministic = True``; they
    can then be read ahead in a thread.
    """

    def __init__(self, config_str: str = "") -> None:
        """Do nothing.

        :param config_str: YAML text, for subclasses that read their settings from it
        """

    @property
    def num_batches(self) -> Mapping[str, int]:
        """Batches per stream, as far as they are known beforehand."""
        return {}

    def stream_names(self) -> list[str]:
        """Return the names of all streams, sorted."""
        return _written_streams(self)

    def stream(self, name: str) -> Callable[[], Any] | None:
        """Return what provides the stream ``name`` when it is called, None if there is no such stream."""
        return getattr(self, name + STREAM_SUFFIX) if name in _written_streams(self) else None


def get_stream(dataset: Any, name: str) -> Callable[[], Any]:
    """Return what provides the stream ``name`` of ``dataset`` when it is called.

    :param dataset: an ``AbstractDataset``, or any object with methods ``<name>_stream``
    :raise ConfigError: if there is none, naming the streams that exist
    """
    own = isinstance(dataset, AbstractDataset)
    method = dataset.stream(name) if own else getattr(dataset, name + STREAM_SUFFIX, None)
    if callable(method):
        return method  # type: ignore[no-any-return]
    known = dataset.stream_names() if own else _written_streams(dataset)
    raise ConfigError(
        f"{type(dataset).__name__} has no stream {name!r} (no method '{name}{STREAM_SUFFIX}'){nearest(name, known)}"
    )


def _written_streams(dataset: Any) -> list[str]:
    """Return the names of the streams that are methods of ``dataset``, sorted."""
    names = (name for name in dir(dataset) if name.endswith(STREAM_SUFFIX) and not name.startswith("_"))
    return sorted(name.removesuffix(STREAM_SUFFIX) for name in names)
