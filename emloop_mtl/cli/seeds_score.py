"""The scores of runs that differ in their seed only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class SeedsScore:
    """The best scores of finished runs that differ in their seed only.

    :param values: key -> value, of the other keys that have a list
    :param name: the number, as writers call it
    :param mode: ``min`` if less is better, ``max`` if more is
    :param runs: how many
    :param mean: of their best values
    :param std: likewise, with n - 1; None of a single one
    """

    values: Mapping[str, Any]
    name: str
    mode: str
    runs: int
    mean: float
    std: float | None
