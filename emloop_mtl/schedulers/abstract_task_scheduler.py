"""The protocol of task schedulers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

from ..errors import CheckpointError, ConfigError, DataError
from ..types import EpochData, State
from .loader_walk import LoaderWalk

if TYPE_CHECKING:
    from ..data.batch import Batch


class Loader(Protocol):
    """What a scheduler knows of a loader."""

    @property
    def name(self) -> str: ...

    @property
    def num_batches(self) -> int | None:
        """Batches of one round through the loader, None where they are not known."""

    @property
    def n_batches(self) -> int | None:
        """How many batches the user wants of it in one pass; None or 0 for all."""

    def samples_in(self, num_batches: int) -> int | None:
        """Return how many samples so many batches have, starting over as often as need be; None if not known."""

    def batches(self, pass_number: int | tuple[int, int], start: int = 0) -> Iterator[Batch]:
        """Return the batches of one round from number ``start`` on; a pair is (pass, how often it started over)."""


class AbstractTaskScheduler(ABC):
    """Decides which loaders make the next step of a pass.

    What a pass yields is a function of the loaders, the seed, the number of the pass and, for schedulers that have
    any, their state, which reading does not change. A subclass says in ``picks`` whose turn it is; reading,
    starting over and going on at any step are done here.

    :param fillup: ask as many batches of every loader as the longest one has
    :param heeds_n_batches: whether ``n_batches`` of a loader overrides its length
    """

    learns: ClassVar[bool] = False
    """Whether the order of a pass depends on the epochs before it; no pass is read ahead of its time then."""

    joins: ClassVar[bool] = False
    """Whether the batches of a step are parts of one batch, which is made of them."""

    def __init__(self, fillup: bool = False, heeds_n_batches: bool = True) -> None:
        self.fillup = fillup
        self._heeds_n_batches = heeds_n_batches

    @abstractmethod
    def picks(
        self, lengths: Sequence[int | None], *, seed: int = 0, pass_number: int = 0
    ) -> Generator[tuple[int, ...], bool, None]:
        """Yield for each step the indices of the loaders that give a batch, in their order.

        What is sent back tells whether all of them had one; if not, the pick is no step, and the loader of unknown
        length in it is exhausted.

        :param lengths: batches to ask of each loader, None for as many as there are
        :param seed: seed of the pass, for schedulers that draw
        :param pass_number: number of the pass
        """

    def steps(
        self, loaders: Sequence[Loader], *, seed: int = 0, pass_number: int = 0, start: int = 0, skip: int = 0
    ) -> Iterator[list[Batch]]:
        """Return the steps of one pass, each a list of batches of which the last one has ``ends_step``.

        :param loaders: the loaders to draw from
        :param seed: what random picks derive from
        :param pass_number: number of the pass, from 0
        :param start: steps of it that were had before; of loaders of known length their data is not read
        :param skip: batches of the step after these that were had before, likewise
        :raise ConfigError: if the loaders cannot give what is asked of them
        """
        lengths = self.lengths(loaders, seed=seed, pass_number=pass_number)
        return self._walk(loaders, lengths, seed, pass_number, start, skip)

    def num_steps(self, loaders: Sequence[Loader]) -> int | None:
        """Return how many steps a pass has, exactly; None if the length of a loader is not known."""
        return self.num_batches(loaders)

    def num_batches(self, loaders: Sequence[Loader]) -> int | None:
        """Return how many batches a pass has, exactly; None if the length of a loader is not known."""
        return _total(self.shares(loaders))

    def num_samples(self, loaders: Sequence[Loader]) -> int | None:
        """Return how many samples a pass has, exactly; None if that is not known.

        :param loaders: loaders that know how many samples batches of theirs have
        """
        counts = []
        for loader, share in zip(loaders, self.shares(loaders), strict=True):
            counts.append(None if share is None else loader.samples_in(share))
        return _total(counts)

    def shares(self, loaders: Sequence[Loader]) -> list[int | None]:
        """Return how many batches of each loader every pass takes, exactly; None where that is not known."""
        return self.lengths(loaders)

    def lengths(self, loaders: Sequence[Loader], *, seed: int = 0, pass_number: int = 0) -> list[int | None]:
        """Return how many batches are asked of each loader, None for as many as there are.

        :param loaders: the loaders to draw from
        :param seed: seed of the pass, for schedulers that draw
        :param pass_number: number of the pass
        :raise ConfigError: if more is asked of an empty loader, or a length is needed and not known
        """
        wanted = [loader.n_batches or None if self._heeds_n_batches else None for loader in loaders]
        longest = max((loader.num_batches or 0 for loader in loaders), default=0)
        lengths = []
        for loader, n_batches in zip(loaders, wanted, strict=True):
            length = loader.num_batches
            if self.fillup and length is None and not n_batches:
                remedy = "set its n_batches, or fillup: false" if self._heeds_n_batches else "set fillup: false"
                raise ConfigError(
                    f"{type(self).__name__} with fillup needs the length of loader {loader.name!r}, "
                    f"which has none; {remedy}"
                )
            asked = n_batches or (longest if self.fillup else length)
            if length == 0 and asked:
                raise ConfigError(
                    f"{type(self).__name__}: loader {loader.name!r} is empty, but {asked} batches are asked of it; "
                    f"{'unset its n_batches' if n_batches else 'set fillup: false'} or leave it out"
                )
            lengths.append(asked)
        return lengths

    def first_parts(self, loaders: Sequence[Loader]) -> list[list[tuple[int, int | None]]] | None:
        """Return, for batches that have each loader that is drawn from, the indices of their loaders and how many rows.

        None stands for those of a whole batch.

        :param loaders: the loaders to draw from
        :return: None where only a walk shows what batches hold
        """
        kind = type(self)
        is_plain = kind.steps is AbstractTaskScheduler.steps and kind._walk is AbstractTaskScheduler._walk
        if not is_plain or self.joins:
            return None
        return [[(index, None)] for index, share in enumerate(self.shares(loaders)) if share != 0]

    def settings(self) -> dict[str, State]:
        """Return the arguments that the order depends on, as plain data; in the middle of a pass they cannot change."""
        return {"fillup": self.fillup}

    def after_epoch(self, epoch_data: EpochData, next_pass: int) -> None:
        """Learn from an epoch of the training whose stream this scheduler makes.

        :param epoch_data: stream -> variable -> its number
        :param next_pass: number of the first pass that has not begun; what is learnt may change it and those after it
        """

    def state_dict(self) -> dict[str, State]:
        """Return what the scheduler has learnt, as plain data and tensors."""
        return {}

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Go on from what ``state_dict`` returned.

        :raise CheckpointError: if it is not what this kind of scheduler returns
        """
        if state:
            raise CheckpointError(f"{type(self).__name__} keeps no state, but has one in the checkpoint")

    def _walk(
        self, loaders: Sequence[Loader], lengths: list[int | None], seed: int, pass_number: int, start: int, skip: int
    ) -> Iterator[list[Batch]]:
        walks = [LoaderWalk(loader, pass_number, asked) for loader, asked in zip(loaders, lengths, strict=True)]
        picks = self.picks(lengths, seed=seed, pass_number=pass_number)
        pick = next(picks, None)
        try:
            while start > 0 and pick is not None:
                complete = all(walks[index].skip() for index in pick)
                start -= complete
                pick = picks.send(complete)
            if pick is not None and skip >= len(pick):
                raise DataError(f"a step has {len(pick)} batches, but {skip} were read of it before")
            for index in pick[:skip] if pick is not None else ():
                walks[index].skip()
            batches = [walk.batches() for walk in walks]
            while pick is not None:
                step = []
                batch: Batch | None = None
                for index in pick[skip:]:
                    batch = next(batches[index], None)
                    if batch is None:
                        break
                    batch.ends_step = False
                    step.append(batch)
                else:
                    step[-1].ends_step = True
                    yield step
                skip = 0
                pick = picks.send(batch is not None)
        except StopIteration:
            return


def _total(shares: list[int | None]) -> int | None:
    known = [share for share in shares if share is not None]
    return sum(known) if len(known) == len(shares) else None
