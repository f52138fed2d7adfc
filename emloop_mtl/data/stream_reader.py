"""Opening the passes of a stream and reading their batches."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from itertools import islice
from typing import Any

from ..errors import ConfigError, DataError
from ..types import State
from ..utils.isolated_random import IsolatedRandom, isolated
from ..utils.noted import noted
from ..utils.random import derive_seed
from ..utils.reading_again import ReadingAgain
from .batch import Batch
from .stream_changes import describe
from .stream_facts import StreamFacts
from .stream_position import StreamPosition
from .task_loader import TaskLoader
from .task_stream import TaskStream

Item = tuple[Batch | None, bool]
"""A batch and whether it is known to be the last of its pass; None where a pass ended after the last item."""


class StreamReader:
    """Reads the passes of a stream, from any position.

    A plain stream, such as a generator, sees global random generators of its own that begin anew with each pass,
    so what it yields depends on nothing but seed, name and pass, and can be read again to get to a position.

    :param stream_fn: called for every pass, returns its stream
    :param name: name of the stream
    :param prepare: called with every batch that is not prepared
    :param deterministic: whether the stream draws no global random numbers; None to ask the stream's function and
        its dataset
    :param seed: what the randomness of plain streams derives from
    """

    def __init__(
        self,
        stream_fn: Callable[[], Any],
        name: str | None,
        prepare: Callable[[Batch], Batch] | None,
        deterministic: bool | None,
        seed: int,
    ) -> None:
        self.name = name
        self._stream_fn = stream_fn
        self.prepare = prepare
        self._seed = seed
        owner = getattr(stream_fn, "__self__", None)
        if deterministic is None:
            deterministic = getattr(stream_fn, "deterministic", None)
        if deterministic is None:
            deterministic = getattr(owner, "deterministic", False)
        self.deterministic = bool(deterministic)
        self._facts: StreamFacts | None = None
        self._description: dict[str, State] = {}
        self._made: Any = None
        self._made_for = -1
        self._generators: IsolatedRandom | None = None

    def make(self, pass_number: int) -> Any:
        """Return the stream of a pass, calling its function at most once.

        :raise DataError: if what it returns cannot be iterated
        """
        if self._made_for != pass_number:
            self._generators = None
            if self.deterministic:
                stream = self._stream_fn()
            else:
                self._generators = IsolatedRandom(derive_seed(self._seed, self.name, pass_number))
                with self._generators:
                    stream = self._stream_fn()
            if isinstance(stream, TaskLoader):
                stream = TaskStream([stream])
            if not isinstance(stream, Iterable):
                raise DataError(f"stream {self.name!r} is a {type(stream).__name__}; an iterable of batches is needed")
            self._made, self._made_for = stream, pass_number
        return self._made

    def facts(self, pass_number: int) -> StreamFacts:
        """Return what is known of the stream; asked for the first time, it may call the stream's function."""
        if self._facts is None:
            stream = self.make(pass_number)
            self._facts = StreamFacts.of(stream)
            self._description = describe(stream, None if self.deterministic else self._seed)
        return self._facts

    def description(self, pass_number: int) -> dict[str, State]:
        """Return all that the order of the stream depends on, beside what its data hold."""
        self.facts(pass_number)
        return self._description

    def obstacle_to_a_thread(self, pass_number: int) -> str | None:
        """Return why a pass must be read in the main thread, and the remedy; None if it need not."""
        stream = self.make(pass_number)
        if isinstance(stream, TaskStream):
            for loader in stream.loaders:
                if not loader.deterministic:
                    return (
                        f"the dataset of loader {loader.name!r} may draw global random numbers; "
                        f"set num_workers of the loader to 1, or its deterministic to true if it draws none"
                    )
            return None
        if self.deterministic or isinstance(stream, (list, tuple)):
            return None
        return "it may draw global random numbers; set the dataset's attribute deterministic to True if it draws none"

    def first_batches(self) -> Iterator[Batch]:
        """Yield what comes first, read for this alone: a batch, or some that together have something of each loader.

        :raise DataError: naming stream and loader, for samples that make no batch
        """
        stream = self.make(0)
        if isinstance(stream, TaskStream):
            try:
                yield from stream.first_batches()
            except DataError as error:
                raise error.within(f"stream {self.name!r}") from error
            except Exception as error:
                noted(error, f"in stream {self.name!r}")
                raise
            return
        if isinstance(stream, Iterator) and self._stream_fn() is stream:
            return  # it does not begin anew, so that what is read of it would be missing later
        with closing(self.read(StreamPosition(), endless=False)) as items:
            batch, _ = next(items)
            if batch is not None:
                yield batch

    def read(self, position: StreamPosition, endless: bool) -> Generator[Item, None, None]:
        """Return what comes after ``position``: the rest of its pass, and the passes after it if ``endless``.

        A pass without batches is the last one.

        :raise DataError: naming stream and batch, for batches that cannot be read or prepared
        """
        return self._read(position.passes, position.pass_steps, position.step_batches, position.pass_batches, endless)

    def _read(self, number: int, step: int, skip: int, found: int, endless: bool) -> Generator[Item, None, None]:
        while True:
            stream = self.make(number)
            # A stream is walked once only.
            self._made_for = -1
            total = StreamFacts.of(stream).num_batches
            if total is not None and found > total:
                raise DataError(f"stream {self.name!r} has {total} batches, but {found} were read of it before")
            ended = False
            batch: Batch | None = None
            owned = isinstance(stream, TaskStream)
            prepare = self.prepare
            try:
                for item in self._walk(stream, number, step, skip, found):
                    batch = item if owned else _as_batch(item)
                    assert batch is not None
                    batch.number = found
                    if prepare is not None and not batch.prepared:
                        try:
                            batch = prepare(batch)
                        except ConfigError as error:  # as of a task that the batch names and nobody knows
                            where = f"stream {self.name!r}, {batch.place}"
                            raise ConfigError(f"{where}: {error}", error.path) from error.__cause__
                    found += 1
                    ended = found == total
                    yield batch, ended
                    batch = None
            except DataError as error:
                loader = f", loader {batch.data_name!r}" if batch is not None and batch.data_name else ""
                raise error.within(f"stream {self.name!r}, batch {found}{loader}") from error
            except Exception as error:
                noted(error, f"in stream {self.name!r}, batch {found}")
                raise
            if not ended:
                yield None, True
            if not endless or found == 0:
                return
            number, step, skip, found = number + 1, 0, 0, 0

    def _walk(self, stream: Any, number: int, step: int, skip: int, found: int) -> Iterator[Any]:
        if isinstance(stream, TaskStream):
            return stream.iterate(number, step, skip)
        if isinstance(stream, (list, tuple)):
            return iter(stream[found:])
        items = iter(stream) if self._generators is None else isolated(stream, self._generators)
        if found:
            again = ReadingAgain(f"stream {self.name!r}", found)
            for _ in islice(items, found):
                again.count()
            if again.done < found:
                raise DataError(f"the stream ended after {again.done} batches, but {found} were read of it before")
        return items


def _as_batch(item: Any) -> Batch:
    if isinstance(item, Batch):
        return item.copy()
    if isinstance(item, Mapping):
        return Batch(item)
    raise DataError(f"a batch is a mapping of source names to values, not a {type(item).__name__}")
