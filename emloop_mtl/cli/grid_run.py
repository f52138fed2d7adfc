"""What has become of one training of a grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .best_score import BestScore


@dataclass
class GridRun:
    """What has become of one training of a grid.

    :param run: the folder
    :param values: key -> value, of the keys that have a list
    :param state: ``finished``, ``failed``, ``killed``, ``interrupted``, ``in use`` by another process, ``not finished``
        or ``not begun``
    :param reason: why it has not finished, where something tells
    :param epochs: finished epochs
    :param steps: finished steps
    :param best: the number that the first ``SaveBest`` watches, where it was best
    """

    run: str
    values: Mapping[str, Any]
    state: str = "not begun"
    reason: str | None = None
    epochs: int = 0
    steps: int = 0
    best: BestScore | None = None
