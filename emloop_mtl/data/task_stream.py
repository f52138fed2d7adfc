"""The stream that a task scheduler makes of loaders."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from itertools import islice

from ..errors import ConfigError
from ..schedulers import AbstractTaskScheduler, Sequential
from .batch import Batch
from .batch_mixer import BatchMixer
from .task_loader import TaskLoader


class TaskStream:
    """Batches of several loaders in the order of a task scheduler.

    Walks are independent of each other, and what a pass yields depends on its number alone.

    :param loaders: the loaders to draw from, no two of one name and split
    :param scheduler: decides whose batch comes next; by default ``Sequential`` over every batch
    :param seed: what random decisions of the scheduler derive from
    :raise ConfigError: if the loaders cannot give what the scheduler asks of them
    """

    def __init__(
        self, loaders: Sequence[TaskLoader], scheduler: AbstractTaskScheduler | None = None, seed: int = 0
    ) -> None:
        self.loaders = list(loaders)
        self.scheduler = Sequential(every_batch=True) if scheduler is None else scheduler
        self.seed = seed
        seen = set()
        for loader in self.loaders:
            if (loader.name, loader.split) in seen:
                raise ConfigError(
                    f"two loaders are named {loader.name!r} in split {loader.split!r}; give one of them another name"
                )
            seen.add((loader.name, loader.split))
        self.scheduler.lengths(self.loaders)
        task_source = getattr(self.scheduler, "task_source", None)
        self._mixer = BatchMixer(self.loaders, task_source) if self.scheduler.joins else None

    @property
    def num_steps(self) -> int | None:
        """Steps of one pass, None where they are not known."""
        return self.scheduler.num_steps(self.loaders)

    @property
    def num_batches(self) -> int | None:
        """Batches of one pass, None where they are not known."""
        return self.scheduler.num_batches(self.loaders)

    @property
    def num_samples(self) -> int | None:
        """Samples of one pass, None where they are not known."""
        return self.scheduler.num_samples(self.loaders)

    @property
    def sources(self) -> set[str] | None:
        """Names of the sources of all batches together, None where a loader does not know its own."""
        known = [loader.sources for loader in self.loaders]
        named = [sources for sources in known if sources is not None]
        return set(self.added_sources).union(*named) if len(named) == len(known) else None

    @property
    def is_mixed(self) -> bool:
        """Whether its batches are not those of its loaders, but made of rows of several of them."""
        return self._mixer is not None

    @property
    def added_sources(self) -> list[str]:
        """Names of the sources that no loader holds and all batches have."""
        source = None if self._mixer is None else self._mixer.task_source
        return [] if source is None else [source]

    def data_name(self, loader: TaskLoader, task: str) -> str:
        """Return what the data of a task is called in its scores, where it comes from a loader."""
        return loader.name if self._mixer is None else self._mixer.data_names.get(task, self._mixer.data_name)

    def iterate(self, pass_number: int = 0, start_step: int = 0, skip_batches: int = 0) -> Generator[Batch, None, None]:
        """Yield the batches of one pass.

        :param pass_number: number of the pass, from 0
        :param start_step: steps of it that were had before; of loaders of known length their data is not read
        :param skip_batches: batches of the next step that were had before, likewise
        """
        where = {"pass_number": pass_number, "start": start_step, "skip": skip_batches}
        mixer = self._mixer
        for step in self.scheduler.steps(self.loaders, seed=self.seed, **where):
            if mixer is None:
                yield from step
            else:
                yield mixer.join(step)

    def first_batches(self) -> Iterator[Batch]:
        """Yield batches as they come first, with something of each loader in one of them, read for this alone.

        :raise DataError: for samples that make no batch
        """
        planned = self.scheduler.first_parts(self.loaders)
        if planned is None:
            yield from self._first_of_walk()
            return
        for parts in planned:
            read = (self.loaders[index].first_batch(count) for index, count in parts)
            batches = [batch for batch in read if batch is not None]
            if self._mixer is None:
                yield from batches
            else:
                yield self._mixer.join(batches)

    def _first_of_walk(self) -> Iterator[Batch]:
        """Yield what brings a loader for the first time, among as many batches as there are loaders."""
        seen: set[tuple[str, str]] = set()
        with closing(self.iterate()) as walk:
            for batch in islice(walk, len(self.loaders)):
                names = [batch.data_name] if batch.mix is None else [part.data_name for part in batch.mix.parts]
                brought = {(name, batch.split) for name in names}
                if not brought <= seen:
                    yield batch
                seen |= brought

    def __iter__(self) -> Iterator[Batch]:
        return self.iterate()
