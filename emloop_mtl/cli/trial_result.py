"""A trial of a study, as far as it has come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TrialResult:
    """A trial of a study, as far as it has come.

    :param number: counted from 0
    :param state: ``running``, ``finished``, ``pruned`` or ``failed``
    :param stored: name of a range -> the value that the study has stored
    :param value: the best value of the watched number, None where there was none
    :param epoch: when that was
    :param epochs: how many epochs have reported a number
    :param failure: why it has failed
    """

    number: int
    state: str
    stored: Mapping[str, Any]
    value: float | None
    epoch: int | None
    epochs: int
    failure: str | None

    @property
    def folder(self) -> str:
        """The name of the folder of its run."""
        return f"trial-{self.number:04}"
