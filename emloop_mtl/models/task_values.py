"""What a task says about a batch."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor


class TaskValues(NamedTuple):
    """What a task says about the rows of a batch, and what its labels say; None for what there is not."""

    label: Any
    prob: Any
    pred: Any
    rows: Tensor | None
    """int64 indices of the labelled rows; None if there are labels and they are those of all rows."""
    share: Tensor | None = None
    """int64 indices of the rows that the task is about; None for all."""
