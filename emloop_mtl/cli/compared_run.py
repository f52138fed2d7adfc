"""A run beside others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class ComparedRun:
    """What a run is compared by.

    :param run: its folder
    :param epoch: whose numbers they are; None where nothing was written
    :param step: likewise
    :param scores: numbers, as writers call them
    :param settings: the entries of its config, by their keys, joined by dots
    """

    run: str
    epoch: int | None = None
    step: int | None = None
    scores: dict[str, float] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
