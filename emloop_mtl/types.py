"""The types that the protocols speak of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableSequence
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from .errors import TrainingTerminated

__all__ = [
    "EpochData",
    "EpochNumber",
    "Mode",
    "Position",
    "State",
    "Stateful",
    "Stream",
    "TimeProfile",
    "TrainingTerminated",
]

State: TypeAlias = Any
"""Plain data that a checkpoint keeps: None, bool, int, float, str, bytes, list, tuple, dict and tensors."""

Stream: TypeAlias = Iterable[Mapping[str, Any]]
"""What a ``<name>_stream`` method returns: batches, each a mapping of source names to values."""

EpochData: TypeAlias = dict[str, dict[str, Any]]
"""Stream name -> variable -> a number, or ``{aggregation: number}``."""

Mode: TypeAlias = Literal["min", "max"]
"""Whether less or more of a number is better."""

TimeProfile: TypeAlias = dict[str, MutableSequence[float]]
"""Name of a measured activity -> its durations in seconds."""


class Stateful(Protocol):
    """What takes part in a checkpoint."""

    def state_dict(self) -> dict[str, State]: ...

    def load_state_dict(self, state: dict[str, State]) -> None: ...


class Position(NamedTuple):
    """Where a training stands: finished epochs, steps, passes through the train stream and samples."""

    epoch: int = 0
    step: int = 0
    passes: int = 0
    samples: int = 0


class EpochNumber(NamedTuple):
    """A number in ``epoch_data`` as hooks declare it in ``requires`` and ``provides``.

    ``stream`` None means every stream; ``aggregation`` None means the bare number, or the ``mean``.
    """

    variable: str
    stream: str | None = None
    aggregation: str | None = None
