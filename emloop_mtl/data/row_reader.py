"""Reading the batches of a dataset with rows."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch.utils.data import Dataset

from ..constants import UID_SOURCE
from ..errors import DataError
from ..utils.noted import noted
from .failed_read import FailedRead
from .row_draws import RowDraws
from .row_seeds import RowSeeds
from .subsets import whole
from .worker_batches import worker_batches

Collate = Callable[[Any], Mapping[str, Any]]


class RowReader(Dataset[Any]):
    """The rows of one round through a dataset, in batches of any size.

    :param dataset: has ``__len__`` and ``__getitem__``; ``__getitems__``, if it has that too, fetches many rows
    :param order: numbers of the rows in the order of reading, int64 of shape [n]
    :param collate: makes a batch of what the dataset returned
    :param by_row: fetch row by row even if the dataset can do better
    :param seed_parts: what the random numbers that the dataset may draw derive from, together with the number of
        the row; None for a dataset that draws none
    :param draws: what is known of that from other rounds
    """

    def __init__(
        self,
        dataset: Any,
        order: torch.Tensor,
        collate: Collate,
        by_row: bool,
        seed_parts: tuple[object, ...] | None,
        draws: RowDraws,
    ) -> None:
        self._dataset = dataset
        self._order = order
        self._collate = collate
        self._seed_parts = seed_parts
        self._draws = draws
        self._by_row = by_row or not hasattr(whole(dataset), "__getitems__")

    def read(self, ranges: Iterable[tuple[int, int]]) -> Generator[dict[str, Any], None, None]:
        """Yield a batch for each range of places in the order, in this process."""
        for each in ranges:
            yield self._isolated(each)

    def read_in_workers(
        self, ranges: Iterable[tuple[int, int]], num_workers: int
    ) -> Generator[dict[str, Any], None, None]:
        """Return the same batches, fetched by ``num_workers`` processes.

        :raise Exception: what a worker raised
        """
        return worker_batches(self, num_workers, ranges)

    def __getitem__(self, places: tuple[int, int]) -> dict[str, Any] | FailedRead:
        try:
            return self._isolated(places)
        except Exception as error:
            return FailedRead(error)

    def _isolated(self, places: tuple[int, int]) -> dict[str, Any]:
        if self._seed_parts is None:
            return self._fetch(places)
        return self._draws.isolated(partial(self._fetch, places), self._seed_parts)

    def _fetch(self, places: tuple[int, int], seeds: RowSeeds | None = None) -> dict[str, Any]:
        first, stop = places
        rows = self._order[first:stop]
        if self._by_row:
            fetched: Any = self._one_by_one(rows, seeds)
        elif seeds is None:
            fetched = self._dataset.__getitems__(rows)
        else:
            fetched = seeds.read(lambda _: self._dataset.__getitems__(rows), "rows", first)
        if seeds is None:
            batch = self._collate(fetched)
        else:
            batch = seeds.read(lambda _: self._collate(fetched), "collate", first)
        if not isinstance(batch, Mapping):
            raise DataError(f"collate returned a {type(batch).__name__}; it must return source names with their values")
        batch = dict(batch)
        batch.setdefault(UID_SOURCE, rows)
        return batch

    def _one_by_one(self, rows: torch.Tensor, seeds: RowSeeds | None) -> list[Any]:
        read = self._dataset.__getitem__ if seeds is None else partial(seeds.read, self._dataset.__getitem__, "row")
        fetched, row = [], 0
        try:
            for row in rows.tolist():
                fetched.append(read(row))
        except Exception as error:
            noted(error, f"in row {row}")
            raise
        return fetched
