"""Some rows of a ragged column."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Sequences(NamedTuple):
    """Some rows of a ragged column: the values of all, one after another, and how many each row has."""

    values: np.ndarray[Any, Any]
    lengths: np.ndarray[Any, Any]


Chunk = np.ndarray[Any, Any] | list[str] | Sequences
"""Some rows of a column: values of one shape, texts, or sequences."""
