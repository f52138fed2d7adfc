"""The labels of several tasks as one tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .target import Target

_NOT_COMPARED = frozenset((torch.uint16, torch.uint32, torch.uint64))
"""Dtypes that torch can hold but not compare."""


class StackedLabels:
    """The labels of tasks in one batch.

    :param values: [tasks, rows, ...]
    :param rows: for each task the int64 indices of its labelled rows, None where all are
    """

    __slots__ = ("counts", "labelled", "unlabelled", "values")

    def __init__(self, values: Tensor, rows: Sequence[Tensor | None]) -> None:
        self.values = values
        """Without a meaning, but of use to a loss, where a row has no label."""
        self.labelled: Tensor | None = None
        """Which rows have a label, [tasks, rows]; None if all have."""
        self.counts: Tensor | None = None
        """How many labelled rows each task has, 1 where it has none."""
        self.unlabelled = [task for task, some in enumerate(rows) if some is not None and not some.shape[0]]
        """The numbers of the tasks without any labelled row."""
        if any(some is not None for some in rows):
            labelled = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
            for row, some in zip(labelled, rows, strict=True):
                if some is not None:
                    row.zero_().index_fill_(0, some, True)
            self._leave_out(labelled)

    @classmethod
    def of(cls, labels: Sequence[Any], rows: Sequence[Tensor | None], target: Target) -> StackedLabels | None:
        """Return labels as one, None if they do not go together.

        :param labels: for each task its labels, [n, ...]
        :param rows: for each task the int64 indices of its labelled rows, None where all are
        :param target: what they are
        """
        first = labels[0]
        if type(first) is not Tensor or not first.dim() or not first.shape[0] or first.dtype in _NOT_COMPARED:
            return None
        # A loss leaves out single labels of rows with a dimension for several, which the mean over rows does not.
        if target is Target.CLASS and first.dim() > 1 and not (first.is_floating_point() and first.shape[-1] > 1):
            return None
        shape, dtype, device = first.shape, first.dtype, first.device
        for label in labels:
            if type(label) is not Tensor or label.dtype is not dtype or label.shape != shape or label.device != device:
                return None
        return cls(torch.stack(list(labels)), rows)

    def keep(self, rows: Tensor) -> list[Tensor | None]:
        """Leave out all rows but some, on the host, and return for each task those that are kept; None for all.

        :param rows: int64 indices into all rows of all tasks, one task after the other
        """
        tasks, size = self.values.shape[:2]
        labelled = torch.zeros(tasks * size, dtype=torch.bool).index_fill_(0, rows, True).view(tasks, size)
        self._leave_out(labelled)
        counts: list[int] = labelled.sum(1).tolist()
        parts = torch.split(rows % size, counts)
        self.unlabelled = [task for task, count in enumerate(counts) if not count]
        return [None if count == size else part for count, part in zip(counts, parts, strict=True)]

    def to(self, device: torch.device) -> StackedLabels:
        """Move the labels to a device, without waiting for it, and return them."""
        if self.values.device != device:
            for name in ("values", "labelled", "counts"):
                value = getattr(self, name)
                if value is not None:
                    pinned = value.pin_memory() if device.type == "cuda" and value.device.type == "cpu" else value
                    setattr(self, name, pinned.to(device, non_blocking=True))
        return self

    def _leave_out(self, labelled: Tensor) -> None:
        self.labelled = labelled
        self.counts = labelled.sum(1).clamp_(min=1)
        left_out = ~labelled.view(*labelled.shape, *(1,) * (self.values.dim() - 2))
        self.values = self.values.masked_fill(left_out, 0)
