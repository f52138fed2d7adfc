"""Where the values of a batch come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from .tensor_column import TensorColumn


class Origin:
    """What some batches were read as, at once, and from which columns.

    A batch holds a pair ``(origin, values)``: whoever knows something about all copies, or about their column, can be
    sure that it is true of the batch as long as its value is still the one that was read.

    :param parts: source -> place of its value among those of a batch, its column, and the copies for all batches
    """

    __slots__ = ("_parts", "answers")

    def __init__(self, parts: Mapping[str, tuple[int, TensorColumn, torch.Tensor]]) -> None:
        self._parts = {source: (*part, part[1].version) for source, part in parts.items()}
        self.answers: dict[object, int] = {}
        """Notes of whoever asks the same of every batch; they live as long as these batches."""

    def __reduce__(self) -> tuple[type[Origin], tuple[dict[str, Any]]]:
        # Who copies or sends a batch does not mean the columns, nor the other batches.
        return Origin, ({},)

    def find(self, source: str) -> tuple[int, torch.Tensor, TensorColumn | None] | None:
        """Return the place of a source, its copies for all batches, and its column; None if there is none.

        The column is None if it is not known to hold what it held when it was read.
        """
        if source not in self._parts:
            return None
        place, column, copies, version = self._parts[source]
        return place, copies, None if version is None or column.version != version else column
