"""The batches of one dataset for some tasks and one split."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import islice
from typing import Any, Literal

import torch
from torch.utils.data import Dataset, IterableDataset

from ..constants import TRAIN_STREAM
from ..errors import ConfigError, DataError, nearest
from ..utils.noted import noted
from ..utils.random import permutation
from .auto_workers import FEW, MOST_WORKERS, AutoWorkers
from .batch import Batch
from .check_loader import check_loader
from .collate import collate as default_collate
from .column_dataset import ColumnDataset
from .column_reader import ColumnReader
from .cut_batch import cut_batch
from .iterable_reader import IterableReader, as_promised
from .row_draws import RowDraws
from .row_reader import RowReader
from .sequence_lengths import SequenceLengths
from .subsets import rows_of, whole

Rows = Dataset[Any] | Sequence[Any] | Iterable[Any]


class TaskLoader:
    """Batches of one dataset for some tasks and one split.

    The order is a function of seed, name, split and the number of the pass alone. So is all that a dataset draws
    from the global generators of ``random``, numpy and torch while a batch is read, whoever reads it, in whatever
    process; nobody else's random numbers are touched.

    A batch brings ``_uids_``, the numbers of its rows, unless the dataset has it already or is iterable.

    :param dataset: a ``ColumnDataset``, anything with ``__len__`` and ``__getitem__``, or an ``IterableDataset``
        or other iterable that can be walked again and again; samples are mappings, or pairs (features, labels) of
        mappings
    :param tasks: task name -> its label source, None for a task without labels; if left out, the model fills in its
        tasks whose labels are there
    :param split: the split that the dataset is
    :param name: what the data is called in scores and messages; by default the dataset's name, or its class
    :param batch_size: samples per batch; None if an iterable dataset yields whole batches
    :param shuffle: by default true for the split ``train`` of a dataset with rows
    :param drop_last: leave out a last batch that is not full
    :param n_batches: how many batches a scheduler that heeds it shall take in one pass; None or 0 for all
    :param collate: makes a batch of a list of samples; by default equal shapes are stacked
    :param ragged: sources that differ in length, to be padded
    :param min_data_len: batches of these are padded to this length where their rows are shorter
    :param max_data_len: rows of these are cut to this length, at their end; 0 for no bound
    :param num_workers: processes that read; with more than one an iterable dataset must divide itself between them.
        ``auto`` times the first batches and compares that with what a process costs: rows go on with as many as are
        worth it, an iterable dataset with at most one from its second round on, and columns are never read by others
    :param seed: what the order derives from; by default the seed of the ``MultiTaskDataset``, or 0
    :param deterministic: whether reading draws no global random numbers; by default the dataset's attribute of that
        name, and true for a plain ``ColumnDataset`` or a ``torch.utils.data.Subset`` of one
    :raise ConfigError: for an argument out of range, or a label that the dataset is known to lack
    """

    def __init__(
        self,
        dataset: Rows,
        tasks: Mapping[str, str | None] | None = None,
        split: str = TRAIN_STREAM,
        *,
        name: str | None = None,
        batch_size: int | None,
        shuffle: bool | None = None,
        drop_last: bool = False,
        n_batches: int | None = None,
        collate: Callable[[Any], Mapping[str, Any]] | None = None,
        ragged: Collection[str] = (),
        min_data_len: int = 0,
        max_data_len: int = 0,
        num_workers: int | Literal["auto"] = 0,
        seed: int | None = None,
        deterministic: bool | None = None,
    ) -> None:
        self.dataset: Any = dataset
        self.name = name or getattr(dataset, "name", None) or type(dataset).__name__
        self.split = split
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.n_batches = n_batches
        self.num_workers = num_workers
        self.seed = seed
        self._has_rows = not isinstance(dataset, IterableDataset) and hasattr(dataset, "__getitem__")
        self.shuffle = (split == TRAIN_STREAM and self._has_rows) if shuffle is None else shuffle
        check_loader(self)
        self._auto = (
            AutoWorkers(self.name, most=MOST_WORKERS if self._has_rows else 1) if num_workers == "auto" else None
        )
        self.tasks = self._checked_tasks({} if tasks is None else tasks)
        if not isinstance(ragged, Iterable) or not all(isinstance(source, str) for source in ragged):
            raise ConfigError(f"loader {self.name!r}: ragged must be a list of sources, not {ragged!r}")
        if collate is not None and not callable(collate):
            raise ConfigError(f"loader {self.name!r}: collate must be a function of a list of samples, not {collate!r}")
        ragged = (ragged,) if isinstance(ragged, str) else tuple(ragged)
        bounds = SequenceLengths.of(min_data_len, max_data_len, f"loader {self.name!r}")
        self._check_ragged(ragged, bounds, collate)
        self._ragged = ragged if batch_size is not None else (), min_data_len
        self._by_row = collate is not None
        self._collate = collate or partial(
            default_collate, ragged=ragged, min_data_len=min_data_len, max_data_len=max_data_len
        )
        if deterministic is None:
            plain = collate is None and _reads_as_ever(whole(dataset))
            deterministic = bool(getattr(whole(dataset), "deterministic", plain))
        self._may_draw = not deterministic
        self._draws = RowDraws()

    @property
    def deterministic(self) -> bool:
        """Whether reading draws no random numbers in this process, so that a thread may do it."""
        return not self._may_draw or self._workers > 0

    @property
    def num_samples(self) -> int | None:
        """Samples of one round, without those that ``drop_last`` drops; None where that is not known."""
        if self.batch_size is None:
            return None
        rows = self._num_rows()
        return rows - rows % self.batch_size if rows is not None and self.drop_last else rows

    @property
    def num_batches(self) -> int | None:
        """Batches of one round, None where that is not known."""
        if self.batch_size is None:
            return self._num_rows()
        samples = self.num_samples
        return None if samples is None else -(-samples // self.batch_size)

    def samples_in(self, num_batches: int) -> int | None:
        """Return how many samples the first ``num_batches`` batches hold, starting over as often as need be."""
        samples, length = self.num_samples, self.num_batches
        if samples is None or self.batch_size is None or not length:
            return None if num_batches else 0
        rounds, rest = divmod(num_batches, length)
        return rounds * samples + min(rest * self.batch_size, samples)

    @property
    def sources(self) -> list[str] | None:
        """Names of the sources of a batch, None where they are not known without reading one."""
        dataset = whole(self.dataset)
        return dataset.sources if isinstance(dataset, ColumnDataset) and not self._by_row else None

    def no_rows(self) -> Batch | None:
        """Return a batch without rows, which shows what batches hold; None where that shows only in reading."""
        dataset = whole(self.dataset)
        if not self.reads_as_ever:
            return None
        return Batch(dataset.__getitems__([]), tasks=self.tasks, data_name=self.name, split=self.split, size=0)

    def first_batch(self, count: int | None = None) -> Batch | None:
        """Return the first batch of the first round, read for this alone.

        What reads the batches later reads it: this process, or others that end with it. Global random generators
        are left as they are; a dataset that is read in this process is asked for these samples once more.

        :param count: how many rows it has, the first ones again where there are fewer; None for those of a batch, and
            always None for an iterable dataset
        :return: None where there is none
        :raise DataError: for samples that make no batch
        :raise Exception: what the dataset raises, with a note that tells where
        """
        parts = (self.seed or 0, self.name, self.split, 0)
        try:
            sources = self._first_rows(parts, count) if self._has_rows else self._first_of_walk(parts)
            if sources is None:
                return None
            batch = Batch(sources, tasks=self.tasks, data_name=self.name, split=self.split)
            batch.count()
            return batch
        except DataError as error:
            raise error.within(f"loader {self.name!r}") from error
        except Exception as error:
            noted(error, f"in loader {self.name!r}")
            raise

    def facts(self) -> dict[str, str | int | bool | None]:
        """Return all that its batches depend on, beside what the data hold."""
        return {
            "name": self.name,
            "split": self.split,
            "rows": None if self.batch_size is None else self._num_rows(),
            "batch_size": self.batch_size,
            "drop_last": self.drop_last,
            "shuffle": self.shuffle,
            "n_batches": self.n_batches or None,
            "seed": self.seed or 0,
            # Rows come in one order whoever reads them. Of one process it does not matter which it is.
            "processes": None if self._has_rows else max(1, self._workers),
            "contents": getattr(whole(self.dataset), "fingerprint", None),
        }

    def __len__(self) -> int:
        length = self.num_batches
        if length is None:
            raise TypeError(f"loader {self.name!r} reads a dataset without a length")
        return length

    def __iter__(self) -> Iterator[Batch]:
        return self.batches(0)

    def batches(self, pass_number: int | tuple[int, int] = 0, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of one round.

        :param pass_number: number of the pass, or a pair (pass, how often the loader has started over in it)
        :param start: number of the first batch to yield; from rows, none is read before it
        :raise DataError: for samples that make no batch
        :raise Exception: what the dataset raises, with a note that tells where
        """
        parts = (self.seed or 0, self.name, self.split, pass_number)
        try:
            if self._reads_columns:
                assert self.batch_size is not None
                if self._auto is not None and self._auto.number is None:
                    self._auto.never("columns are read faster than they come from another process")
                facts = self.tasks, self.name, self.split
                order = rows_of(self.dataset, self._order(parts))
                columns = ColumnReader(whole(self.dataset), order, self.batch_size, *facts)
                yield from columns.read(start, len(self))
                return
            for sources in self._read(parts, start):
                batch = Batch(sources, tasks=self.tasks, data_name=self.name, split=self.split)
                batch.count()
                yield batch
        except DataError as error:
            raise error.within(f"loader {self.name!r}") from error
        except Exception as error:
            noted(error, f"in loader {self.name!r}")
            raise

    @property
    def has_rows(self) -> bool:
        """Whether rows can be read by their number; those of an iterable dataset come in its order."""
        return self._has_rows

    def parts(self, pass_number: int | tuple[int, int], ranges: Iterable[tuple[int, int]]) -> Iterator[Batch]:
        """Yield some rows of one round at a time, in the order in which its batches hold them.

        :param pass_number: as of ``batches``
        :param ranges: for each part the place of its first row, and that after its last; taken as they are wanted,
            by processes that read ahead of that
        :raise DataError: for samples that make no batch
        :raise Exception: what the dataset raises, with a note that tells where
        """
        parts = (self.seed or 0, self.name, self.split, pass_number)
        try:
            order = self._order(parts)
            if self._reads_columns:
                dataset, order = whole(self.dataset), rows_of(self.dataset, order)
                read: Iterator[Mapping[str, Any]] = (dataset.__getitems__(order[first:stop]) for first, stop in ranges)
            else:
                read = self._read_rows(parts, order, iter(ranges), self.num_batches)
            for sources in read:
                batch = Batch(sources, tasks=self.tasks, data_name=self.name, split=self.split)
                batch.count()
                yield batch
        except DataError as error:
            raise error.within(f"loader {self.name!r}") from error
        except Exception as error:
            noted(error, f"in loader {self.name!r}")
            raise

    @property
    def reads_as_ever(self) -> bool:
        """Whether batches hold what is in columns as it is, so that nobody need be asked for it."""
        return _reads_as_ever(whole(self.dataset)) and not self._by_row

    def cut(self, batch: Batch, first: int, stop: int) -> Batch:
        """Return some rows of a batch of this loader.

        :raise DataError: naming a source whose rows cannot be told apart
        """
        return cut_batch(batch, first, stop, *self._ragged)

    @property
    def _reads_columns(self) -> bool:
        """Whether columns are read as they are, in this process, so that several batches can be read at once."""
        return self.reads_as_ever and not (self._may_draw or self._workers)

    @property
    def _workers(self) -> int:
        """How many processes read; 0 as long as that is not decided."""
        if self._auto is not None:
            return self._auto.number or 0
        assert isinstance(self.num_workers, int)
        return self.num_workers

    def _order(self, parts: tuple[object, ...]) -> torch.Tensor:
        count = len(self.dataset)
        return permutation(count, *parts) if self.shuffle else torch.arange(count)

    def _first_rows(self, parts: tuple[object, ...], count: int | None) -> Mapping[str, Any] | None:
        if not self.num_samples:
            return None
        rows = self._order(parts)[: self.num_samples]
        rows = rows[: self.batch_size] if count is None else rows[torch.arange(count) % len(rows)]
        if self.reads_as_ever and not self._may_draw:
            columns: dict[str, Any] = whole(self.dataset).__getitems__(rows_of(self.dataset, rows))
            return columns
        seed_parts = (*parts, "draws") if self._may_draw else None
        reader = RowReader(self.dataset, rows, self._collate, self._by_row, seed_parts, RowDraws())
        ranges, workers = [(0, len(rows))], self._workers
        with closing(reader.read_in_workers(ranges, workers) if workers else reader.read(ranges)) as batches:
            return next(batches)

    def _first_of_walk(self, parts: tuple[object, ...]) -> Mapping[str, Any] | None:
        seed_parts = (*parts, "draws") if self._may_draw else None
        reader = IterableReader(self.dataset, self.batch_size, self._collate, self.drop_last, seed_parts)
        with closing(reader.read(self._workers)) as batches:
            return next(batches, None)

    def _read(self, parts: tuple[object, ...], start: int) -> Iterator[Mapping[str, Any]]:
        length = self.num_batches
        seed_parts = (*parts, "draws") if self._may_draw else None
        if not self._has_rows:
            reader = IterableReader(self.dataset, self.batch_size, self._collate, self.drop_last, seed_parts)
            yield from as_promised(self._timed(reader, length), start, length, self.name)
            return
        size = self.batch_size
        assert size is not None
        assert length is not None
        ranges = ((number * size, (number + 1) * size) for number in range(start, length))
        yield from self._read_rows(parts, self._order(parts), ranges, length)

    def _read_rows(
        self, parts: tuple[object, ...], order: torch.Tensor, ranges: Iterator[tuple[int, int]], length: int | None
    ) -> Iterator[Mapping[str, Any]]:
        seed_parts = (*parts, "draws") if self._may_draw else None
        rows = RowReader(self.dataset, order, self._collate, self._by_row, seed_parts, self._draws)
        if self._auto is not None and self._auto.number is None:
            yield from self._auto.timed(rows.read(islice(ranges, FEW)))
            self._auto.decide(rows, length)
        workers = self._workers
        yield from rows.read_in_workers(ranges, workers) if workers else rows.read(ranges)

    def _timed(self, reader: IterableReader, length: int | None) -> Iterator[Mapping[str, Any]]:
        # What has begun to be iterated cannot be gone on with elsewhere, so this decides about the rounds after it.
        if self._auto is not None:
            self._auto.decide(reader, length)
            if self._auto.number is None:
                return self._auto.timed(reader.read(0))
        return reader.read(self._workers)

    def _num_rows(self) -> int | None:
        if not self._has_rows and self._workers > 1:
            return None
        try:
            return len(self.dataset)
        except TypeError:
            return None

    def _checked_tasks(self, tasks: Mapping[str, str | None]) -> dict[str, str | None]:
        if not isinstance(tasks, Mapping):
            raise ConfigError(
                f"loader {self.name!r}: tasks is a mapping of task names to label sources (or None)", ("tasks",)
            )
        dataset = whole(self.dataset)
        known = dataset.sources if isinstance(dataset, ColumnDataset) else None
        for task, label in tasks.items():
            if not isinstance(task, str) or not (label is None or isinstance(label, str)):
                raise ConfigError(
                    f"loader {self.name!r}: tasks maps the name of a task to the one source of its labels (or None), "
                    f"not {task!r} to {label!r}" + (f"; write '{task}'" if isinstance(task, int) else ""),
                    ("tasks", str(task)),
                )
            if known is not None and label is not None and label not in known:
                text = f"the data has no label {label!r} for task {task!r}{nearest(label, known)}"
                text = f"{text}; name None instead if its rows have no labels"
                raise ConfigError(f"loader {self.name!r}: {text}", ("tasks", task))
        return dict(tasks)

    def _check_ragged(self, ragged: tuple[str, ...], bounds: SequenceLengths, collate: object) -> None:
        if ragged and collate is not None:
            raise ConfigError(f"loader {self.name!r}: ragged has no effect beside a collate function; leave one out")
        if ragged and isinstance(whole(self.dataset), ColumnDataset):
            raise ConfigError(f"loader {self.name!r}: a ColumnDataset knows its ragged columns; leave out ragged")
        if any(bounds) and not ragged:
            advice = "name them in 'ragged'" if collate is None else "leave them out beside a collate function"
            advice = "give them to the ColumnDataset" if isinstance(whole(self.dataset), ColumnDataset) else advice
            text = f"min_data_len and max_data_len are about ragged sources, and there are none; {advice}"
            raise ConfigError(f"loader {self.name!r}: {text}")


def _reads_as_ever(dataset: Any) -> bool:
    return isinstance(dataset, ColumnDataset) and type(dataset).__getitems__ is ColumnDataset.__getitems__
