"""Reading the batches of an iterable dataset."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Any

from torch.utils.data import IterableDataset

from ..errors import DataError
from ..utils.isolated_random import IsolatedRandom, isolated
from ..utils.random import derive_seed, seed_host
from ..utils.reading_again import ReadingAgain
from .failed_read import FailedRead
from .row_reader import Collate
from .worker_batches import worker_batches


class IterableReader(IterableDataset[Any]):
    """The batches of one round through an iterable dataset.

    :param dataset: yields samples, or whole batches
    :param batch_size: samples per batch; None if the dataset yields batches
    :param collate: makes a batch of a list of samples
    :param drop_last: leave out a last batch that is not full
    :param seed_parts: what the random numbers that the dataset may draw derive from; None for one that draws none
    """

    def __init__(
        self,
        dataset: Iterable[Any],
        batch_size: int | None,
        collate: Collate,
        drop_last: bool,
        seed_parts: tuple[object, ...] | None,
    ) -> None:
        self._dataset = dataset
        self._batch_size = batch_size
        self._collate = collate
        self._drop_last = drop_last
        self._seed_parts = seed_parts

    def read(self, num_workers: int) -> Generator[Mapping[str, Any], None, None]:
        """Yield the batches, made by ``num_workers`` processes, or by this one.

        :raise Exception: what a worker raised
        """
        if num_workers == 0:
            if self._seed_parts is None:
                yield from self._batches()
            else:
                yield from isolated(self._batches(), IsolatedRandom(derive_seed(*self._seed_parts, 0)))
        else:
            begin = None if self._seed_parts is None else partial(_seed_worker, self._seed_parts)
            yield from worker_batches(self, num_workers, begin=begin)

    def __iter__(self) -> Iterator[Mapping[str, Any] | FailedRead]:
        """Yield the batches of one worker, and an error instead of raising it."""
        try:
            yield from self._batches()
        except Exception as error:
            yield FailedRead(error)

    def _batches(self) -> Iterator[Mapping[str, Any]]:
        for batch in self._dataset if self._batch_size is None else self._made_batches(self._batch_size):
            # Nearly all are dicts, which is told faster.
            if not isinstance(batch, dict) and not isinstance(batch, Mapping):
                raise DataError(f"a batch is a mapping of source names to values, not a {type(batch).__name__}")
            yield batch

    def _made_batches(self, batch_size: int) -> Iterator[Mapping[str, Any]]:
        samples = iter(self._dataset)
        while chosen := list(islice(samples, batch_size)):
            if self._drop_last and len(chosen) < batch_size:
                return
            yield self._collate(chosen)


def as_promised(
    batches: Iterator[Mapping[str, Any]], start: int, length: int | None, name: str
) -> Iterator[Mapping[str, Any]]:
    """Yield the batches from number ``start`` on, holding the dataset to the length it states.

    :param name: name of the loader, for the log
    :raise DataError: if it has fewer
    """
    number = 0
    again = ReadingAgain(f"loader {name!r}", start) if start else None
    for number, batch in enumerate(islice(batches, length), 1):
        if again is not None and number <= start:
            again.count()
        else:
            yield batch
    if length is not None and number < length:
        raise DataError(f"the dataset ended after {number} batches, though its length makes {length}")


def _seed_worker(seed_parts: tuple[object, ...], worker: int) -> None:
    seed_host(derive_seed(*seed_parts, worker))
