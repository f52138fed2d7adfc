"""What a finished training has scored."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from numbers import Real
from pathlib import Path
from typing import Any

from ..checkpoint import Checkpoint
from ..types import EpochData
from ..utils.files import write_atomically


class EndScores:
    """The scores of the streams of the section ``eval``, kept in a file, stream by stream, until all are there.

    A training that is ended while they are computed is resumed with those that are missing. Scores of another
    checkpoint, which a training that went on has left, do not count.

    :param path: the file
    :param checkpoint: whose weights are scored
    """

    def __init__(self, path: Path, checkpoint: Checkpoint) -> None:
        self._path = path
        self._checkpoint = {"tag": checkpoint.tag, **checkpoint.position._asdict()}
        self._scores = self._read()

    def missing(self, streams: Iterable[str]) -> list[str]:
        """Return those of the streams that have no scores."""
        return [stream for stream in streams if stream not in self._scores]

    def of(self, streams: Iterable[str]) -> EpochData:
        """Return the scores of streams, in their order."""
        return {stream: self._scores[stream] for stream in streams}

    def add(self, stream: str, scores: Mapping[str, Any]) -> None:
        """Keep the scores of a stream."""
        self._scores[stream] = dict(scores)
        record = {"checkpoint": self._checkpoint, "scores": {name: _plain(self._scores[name]) for name in self._scores}}
        write_atomically(self._path, json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    def _read(self) -> EpochData:
        if not self._path.is_file():
            return {}
        try:
            record = json.loads(self._path.read_bytes())
            if record["checkpoint"] != self._checkpoint:
                return {}
            return {stream: _numbers(dict(numbers)) for stream, numbers in record["scores"].items()}
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return {}  # what cannot be read is scored again


def _plain(value: Any) -> Any:
    """Return numbers as JSON knows them, texts where it knows none, and leave out what is no number."""
    if isinstance(value, Mapping):
        plain = {str(name): _plain(number) for name, number in value.items()}
        return {name: number for name, number in plain.items() if number is not None}
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()
    if not isinstance(value, Real):
        return None
    number = float(value)
    return number if number - number == 0 else str(number)


def _numbers(value: Any) -> Any:
    return {name: _numbers(number) for name, number in value.items()} if isinstance(value, dict) else float(value)
