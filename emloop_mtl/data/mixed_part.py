"""The rows of one loader in a mixed batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class MixedPart(NamedTuple):
    """The rows of one loader in a mixed batch, which lie side by side.

    :param data_name: name of the loader
    :param first: number of its first row
    :param stop: number of the row after its last
    :param tasks: task name -> label source, as of the loader's own batches
    :param sources: what the loader holds; in others its rows are filled up
    """

    data_name: str
    first: int
    stop: int
    tasks: Mapping[str, str | None]
    sources: frozenset[str]
