"""Which rows of a mixed batch are whose."""

from __future__ import annotations

import numpy as np

from ..data.batch import Batch
from .row_set import RowSet


class MixedRows:
    """The rows of a mixed batch that its tasks are about; looked at where the batch is made, on the host.

    :param batch: the batch
    """

    def __init__(self, batch: Batch) -> None:
        self.size = batch.count() or 0
        self._shares = {name: RowSet(share.host.numpy()) for name, share in batch.shares.items()}
        self._found: dict[tuple[str, ...], RowSet | None] = {}

    def of(self, tasks: tuple[str, ...]) -> RowSet | None:
        """Return the rows that any of some tasks is about, None for all."""
        if tasks not in self._found:
            self._found[tasks] = self._find(tasks)
        return self._found[tasks]

    def _find(self, tasks: tuple[str, ...]) -> RowSet | None:
        if any(task not in self._shares for task in tasks):
            return None
        shares = [self._shares[task] for task in tasks]
        if len(shares) == 1:
            return shares[0]
        found = np.unique(np.concatenate([share.numbers for share in shares]))
        return None if len(found) == self.size else RowSet(found)
