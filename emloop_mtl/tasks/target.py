"""What labels are to a loss."""

from __future__ import annotations

from enum import Enum


class Target(Enum):
    """What a loss takes labels for, which decides how they are cast, checked and predicted."""

    CLASS = "class numbers or class probabilities"
    BINARY = "0 or 1 per entry"
    VALUE = "numbers like the output's"
    OTHER = "not known"
