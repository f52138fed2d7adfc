"""Loaders in turn, row by row."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, cast

from ..errors import ConfigError, DataError
from ..types import State
from .abstract_task_scheduler import AbstractTaskScheduler, Loader
from .cut_walk import CutWalk
from .row_loader import RowLoader
from .row_plan import RowPlan
from .row_turns import ENDLESS, RowTurns
from .row_walk import RowWalk

if TYPE_CHECKING:
    from ..data.batch import Batch


class Interleaved(AbstractTaskScheduler):
    """Take one row of each loader in turn and put them together to mixed batches; exhausted loaders drop out.

    This is the order of AllenNLP's ``RoundRobinScheduler``. A mixed batch is one step. Its rows are grouped by loader,
    so that each task has its rows side by side; every loader keeps the order of its own rows. Of a batch a task sees
    the rows of the loaders that carry it. Where several loaders of a stream carry one task, its scores stand under
    their names together, such as ``digit/mnist+svhn/train/loss``.

    Rows of a source must have one shape and dtype in all loaders that hold it, but for the lengths of ragged ones.
    A loader with ``n_batches`` gives the rows of so many of its batches.

    :param batch_size: rows of a mixed batch; those of the loaders only say what ``n_batches`` and ``drop_last`` of
        theirs mean
    :param fillup: ask as many rows of every loader as the longest one has; shorter ones start over
    :param batches_per_pass: batches of one pass, for which loaders start over as often as need be; None for a pass
        that ends with the rows
    :param samples_per_pass: the same in rows
    :param drop_last: leave out a last batch that is not full
    :param task_source: name of a source to add that tells for each row the name of its loader's task
    :raise ConfigError: for a number that is none, or options that exclude each other

    .. code-block:: yaml

        class: Interleaved
        batch_size: 8
        fillup: true
    """

    joins: ClassVar[bool] = True

    def __init__(
        self,
        batch_size: int,
        fillup: bool = False,
        batches_per_pass: int | None = None,
        samples_per_pass: int | None = None,
        drop_last: bool = False,
        task_source: str | None = None,
    ) -> None:
        super().__init__(fillup)
        self.batch_size = _count("batch_size", batch_size)
        self.batches_per_pass = None if batches_per_pass is None else _count("batches_per_pass", batches_per_pass)
        self.samples_per_pass = None if samples_per_pass is None else _count("samples_per_pass", samples_per_pass)
        self.drop_last = drop_last
        self.task_source = task_source
        lengths = {"batches_per_pass": batches_per_pass, "samples_per_pass": samples_per_pass, "fillup": fillup or None}
        given = [name for name, value in lengths.items() if value is not None]
        if len(given) > 1:
            text = f"{' and '.join(given)} both say how long a pass is; leave one out"
            raise ConfigError(f"Interleaved: {text}", (given[0],))
        if task_source is not None and (not isinstance(task_source, str) or not task_source):
            raise ConfigError(f"Interleaved: task_source must name a source, not {task_source!r}", ("task_source",))

    def settings(self) -> dict[str, State]:
        return {
            **super().settings(),
            "batch_size": self.batch_size,
            "batches_per_pass": self.batches_per_pass,
            "samples_per_pass": self.samples_per_pass,
            "drop_last": self.drop_last,
        }

    def lengths(self, loaders: Sequence[Loader], *, seed: int = 0, pass_number: int = 0) -> list[int | None]:
        """Return how many rows are asked of each loader, None for as many as there are."""
        rows = cast(Sequence[RowLoader], loaders)
        if self._limit is not None:
            return [_endless(loader) for loader in rows]
        longest = max((loader.num_samples or 0 for loader in rows), default=0)
        lengths = []
        for loader in rows:
            length = loader.num_samples
            if self.fillup and length is None and not loader.n_batches:
                text = f"Interleaved with fillup needs the number of rows of loader {loader.name!r}, which has none"
                raise ConfigError(f"{text}; set its n_batches, or fillup: false")
            limited = loader.samples_in(loader.n_batches) if loader.n_batches else None
            asked = limited if loader.n_batches else longest if self.fillup else length
            if length == 0 and (asked or loader.n_batches):
                remedy = "unset its n_batches" if loader.n_batches else "set fillup: false"
                what = f"{loader.n_batches} batches" if loader.n_batches else f"{asked} rows"
                text = f"loader {loader.name!r} is empty, but {what} are asked of it; {remedy} or leave it out"
                raise ConfigError(f"Interleaved: {text}")
            lengths.append(asked)
        return lengths

    def num_batches(self, loaders: Sequence[Loader]) -> int | None:
        total = self._num_rows(loaders)
        return None if total is None else total // self.batch_size if self.drop_last else -(-total // self.batch_size)

    def num_samples(self, loaders: Sequence[Loader]) -> int | None:
        total = self._num_rows(loaders)
        return total - total % self.batch_size if total is not None and self.drop_last else total

    def shares(self, loaders: Sequence[Loader]) -> list[int | None]:
        return [None] * len(loaders)  # it takes no batches of theirs

    def first_parts(self, loaders: Sequence[Loader]) -> list[list[tuple[int, int | None]]] | None:
        is_plain = type(self).steps is Interleaved.steps and type(self)._walk is Interleaved._walk
        if not is_plain or not all(loader.has_rows for loader in cast(Sequence[RowLoader], loaders)):
            return None
        lengths = self.lengths(loaders)
        plan = self._plan(lengths, {}, ())
        left = {index for index, length in enumerate(lengths) if length}
        found: list[list[tuple[int, int | None]]] = []
        while left and (planned := plan.next()) is not None:
            if not left.isdisjoint(index for index, _ in planned):
                found.append(list(planned))
                left.difference_update(index for index, _ in planned)
        return found

    def picks(
        self, lengths: Sequence[int | None], *, seed: int = 0, pass_number: int = 0
    ) -> Generator[tuple[int, ...], bool, None]:
        """Yield for each batch the loaders that give rows to it; lengths must be known."""
        plan = self._plan(lengths, {}, ())
        while (planned := plan.next()) is not None:
            yield tuple(index for index, _ in planned)

    @property
    def _limit(self) -> int | None:
        """How many rows a pass has, None for as many as the loaders have."""
        if self.batches_per_pass is not None:
            return self.batches_per_pass * self.batch_size
        return self.samples_per_pass

    def _num_rows(self, loaders: Sequence[Loader]) -> int | None:
        lengths = self.lengths(loaders)
        if self._limit is not None:
            return self._limit if loaders else 0
        known = [length for length in lengths if length is not None]
        return sum(known) if len(known) == len(lengths) else None

    def _plan(
        self, lengths: Sequence[int | None], unknown: Mapping[int, CutWalk], by_number: Collection[int]
    ) -> RowPlan:
        turns = RowTurns(lengths, lambda index, number: unknown[index].has(number))
        return RowPlan(turns, self.batch_size, self._limit, self.drop_last, by_number)

    def _walk(
        self, loaders: Sequence[Loader], lengths: list[int | None], seed: int, pass_number: int, start: int, skip: int
    ) -> Iterator[list[Batch]]:
        rows = cast(Sequence[RowLoader], loaders)
        unknown = {
            index: CutWalk(rows[index], pass_number, rows[index].n_batches or None)
            for index, length in enumerate(lengths)
            if length is None
        }
        plan = self._plan(lengths, unknown, {index for index, loader in enumerate(rows) if loader.has_rows})
        if not unknown:
            plan.skip(start)
        else:
            for _ in range(start):
                for index, count in plan.skip_one():
                    if index in unknown:
                        unknown[index].skip(count)
        if skip:
            raise DataError(f"a step has 1 batches, but {skip} were read of it before")
        walks: dict[int, CutWalk | RowWalk] = {**unknown}
        while (planned := plan.next()) is not None:
            step: list[Batch] = []
            for index, count in planned:
                if index not in walks:
                    loader, had = rows[index], plan.starts[index]
                    if loader.has_rows:
                        walks[index] = RowWalk(loader, pass_number, plan.counts(index), had)
                    else:
                        endless = ENDLESS if loader.num_samples is None else None
                        walks[index] = CutWalk(loader, pass_number, endless, had)
                step += walks[index].take(count)
            for part in step:
                part.ends_step = False
            step[-1].ends_step = True
            yield step


def _endless(loader: RowLoader) -> int:
    if loader.n_batches:
        text = f"loader {loader.name!r} has n_batches, but a pass of given length takes as many rows of each loader"
        raise ConfigError(f"Interleaved: {text}; leave out one of the two")
    if loader.num_samples == 0:
        raise ConfigError(f"Interleaved: loader {loader.name!r} is empty, but rows are asked of it; leave it out")
    return ENDLESS


def _count(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"Interleaved: {name} must be a whole number, 1 or more, not {value!r}", (name,))
    return value
