"""Reading the batches of columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import repeat
from typing import Any

import torch

from ..constants import UID_SOURCE
from .batch import Batch
from .column import Column
from .column_dataset import ColumnDataset
from .origin import Origin
from .tensor_column import TensorColumn

BATCHES_AT_ONCE = 64
"""How many batches are copied at once at most; an operation on a few rows costs as much as one on many."""

VALUES_AT_ONCE = 384
"""How many tensors they may consist of together: each takes memory of its own, which is slow beyond the cache."""

FEW_BATCHES = 16
"""How many batches make up for that in any case."""

BYTES_AT_ONCE = 2**20
"""How many bytes of them at most, so that they stay in the cache until they are trained on."""


class ColumnReader:
    """The batches of one round through columns.

    Of columns in memory several batches are copied at once, in one operation per column. Of others, and of those
    whose values are lists or differ in length, each batch is read when it is wanted.

    :param dataset: the columns
    :param order: numbers of the rows in the order of reading, int64 of shape [n]
    :param batch_size: rows per batch
    :param tasks: what the batches are told of tasks
    :param data_name: and of the loader
    :param split_name: and of its split
    """

    def __init__(
        self,
        dataset: ColumnDataset,
        order: torch.Tensor,
        batch_size: int,
        tasks: Mapping[str, str | None],
        data_name: str,
        split_name: str,
    ) -> None:
        self._dataset = dataset
        self._order = order
        self._batch_size = batch_size
        self._facts: dict[str, Any] = {"tasks": tasks, "data_name": data_name, "split": split_name}

    def read(self, start: int, stop: int) -> Iterator[Batch]:
        """Yield the batches ``start`` to ``stop``."""
        size, facts, uid = self._batch_size, self._facts, self._dataset.uid
        while start < stop:
            layout = _Layout(self._dataset, size)
            count = min(layout.count, stop - start)
            rows = self._order[start * size : (start + count) * size]
            start += count
            left = len(rows)
            singly = layout.singly
            copies = layout.copies(rows)
            # torch does not know whether values that are made in this mode have been changed.
            origin = None if torch.is_inference_mode_enabled() else Origin(copies)
            for chosen, sources in zip(_split(rows, size), layout.sources(copies), strict=False):
                batch = Batch(sources, size=size if left > size else left, **facts)
                left -= size
                for column in singly:
                    column.add_to(batch, chosen)
                if uid is None:
                    batch[UID_SOURCE] = chosen
                elif uid != UID_SOURCE:
                    batch[UID_SOURCE] = batch[uid]
                if origin is not None:
                    batch.origin = origin, sources
                yield batch


class _Layout:
    """Which columns are copied for several batches at once, and where their values stand in a batch.

    :param dataset: the columns
    :param batch_size: rows per batch
    """

    def __init__(self, dataset: ColumnDataset, batch_size: int) -> None:
        self._at_once: dict[str, tuple[int, TensorColumn]] = {}
        self.singly: list[Column] = []
        self._batch_size = batch_size
        self._names: list[str] = []
        total = 0
        for column in dataset.columns:
            size = column.bytes_at_once(batch_size) if isinstance(column, TensorColumn) else None
            if isinstance(column, TensorColumn) and size is not None:
                self._at_once[column.sources[0]] = len(self._names), column
                total += size
            else:
                self.singly.append(column)
            self._names += column.sources
        wanted = min(BATCHES_AT_ONCE, max(FEW_BATCHES, VALUES_AT_ONCE // max(1, len(self._names))))
        self.count = max(1, min(wanted, BYTES_AT_ONCE // max(1, total)))
        """How many batches are copied at once."""

    def copies(self, rows: torch.Tensor) -> dict[str, tuple[int, TensorColumn, torch.Tensor]]:
        """Return what is copied at once: source -> its place among those of a batch, its column, and the values."""
        return {source: (place, column, column.copies(rows)) for source, (place, column) in self._at_once.items()}

    def sources(
        self, copies: Mapping[str, tuple[int, TensorColumn, torch.Tensor]]
    ) -> Iterator[tuple[tuple[str, Any], ...]]:
        """Return the names and values of each batch, in their order; None where a column is read singly.

        Where all are, there is no end of them.
        """
        values: dict[str, Iterable[Any]] = dict.fromkeys(self._names, repeat(None))
        for source, (_, _, copied) in copies.items():
            values[source] = _split(copied, self._batch_size)
        return zip(*(zip(repeat(name), part, strict=False) for name, part in values.items()), strict=False)


def _split(rows: torch.Tensor, batch_size: int) -> tuple[torch.Tensor, ...]:
    """Return the rows in parts of ``batch_size``; torch does not take a change of one part for one of the others."""
    return rows.unsafe_split(batch_size)
