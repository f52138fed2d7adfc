"""Loaders by shares."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator, Sequence

import numpy as np

from ..errors import ConfigError
from ..types import State
from ..utils.random import derive_seed
from ..utils.shown import shown
from .abstract_task_scheduler import AbstractTaskScheduler, Loader
from .shuffled_turns import shuffled_turns


class DrawnScheduler(AbstractTaskScheduler):
    """Take the batches of loaders by shares, in random order; a subclass says in ``weights`` what the shares are.

    A pass holds a loader as often as its share of the pass says, rounded up or down by chance, so that over many
    passes the shares are met exactly. Order and rounding differ from pass to pass. A loader of which more is taken
    than it has starts over; one of which less is taken should shuffle, since every pass begins with its first batch.

    :param batches_per_pass: batches of one pass; None for as many as the loaders have together, each counted as its
        ``n_batches`` where that is set
    :raise ConfigError: if that is no whole number, 1 or more
    """

    def __init__(self, batches_per_pass: int | None = None) -> None:
        super().__init__()
        is_count = isinstance(batches_per_pass, int) and not isinstance(batches_per_pass, bool)
        if batches_per_pass is not None and not (is_count and batches_per_pass >= 1):
            text = f"batches_per_pass must be a whole number, 1 or more, not {batches_per_pass!r}"
            raise ConfigError(f"{type(self).__name__}: {text}", ("batches_per_pass",))
        self.batches_per_pass = batches_per_pass

    @abstractmethod
    def weights(self, loaders: Sequence[Loader], pass_number: int) -> Sequence[float]:
        """Return what the shares of the loaders in a pass are proportional to.

        :raise ConfigError: if that does not follow from the loaders
        """

    def settings(self) -> dict[str, State]:
        return {**super().settings(), "batches_per_pass": self.batches_per_pass}

    def num_steps(self, loaders: Sequence[Loader]) -> int | None:
        return self.num_batches(loaders)

    def num_batches(self, loaders: Sequence[Loader]) -> int | None:
        return sum(self.sizes(loaders)) if self.batches_per_pass is None else self.batches_per_pass if loaders else 0

    def shares(self, loaders: Sequence[Loader]) -> list[int | None]:
        return [None] * len(loaders)  # the passes differ

    def lengths(self, loaders: Sequence[Loader], *, seed: int = 0, pass_number: int = 0) -> list[int | None]:
        total = self.num_batches(loaders)
        if not total:
            return [0] * len(loaders)
        weights = np.asarray(self.weights(loaders, pass_number), dtype=np.float64)
        if weights.shape != (len(loaders),) or not (np.isfinite(weights).all() and weights.min() >= 0 < weights.max()):
            text = f"the weights of {len(loaders)} loaders must be as many finite numbers >= 0, not all 0"
            raise ConfigError(f"{type(self).__name__}: {text}; weights() returned {shown(weights.tolist())}")
        # By a power of 2, which rounds nothing, so that their sum is no infinity.
        weights = np.ldexp(weights, -np.frexp(weights.max())[1])
        for loader, weight in zip(loaders, weights, strict=True):
            if weight and loader.num_batches == 0:
                text = f"loader {loader.name!r} is empty, but has a share of the batches"
                raise ConfigError(f"{type(self).__name__}: {text}; leave it out")
        # Marks with the same distance, the first one drawn, on a line on which each loader has its share.
        ends = np.cumsum(weights)
        ends = ends * total / ends[-1]  # exact where the shares are whole numbers
        first_mark = derive_seed(seed, type(self).__name__, pass_number, "first mark") / 2**63
        marks = np.diff(np.ceil(ends - first_mark), prepend=0)
        return [int(count) for count in marks]

    def picks(
        self, lengths: Sequence[int | None], *, seed: int = 0, pass_number: int = 0
    ) -> Generator[tuple[int, ...], bool, None]:
        known = [length or 0 for length in lengths]
        for index in shuffled_turns(known, seed, type(self).__name__, pass_number):
            yield (index,)

    def sizes(self, loaders: Sequence[Loader]) -> list[int]:
        """Return how many batches each loader has, or its ``n_batches``.

        :raise ConfigError: if that is not known
        """
        found = []
        for loader in loaders:
            size = loader.n_batches or loader.num_batches
            if size is None:
                remedy = "set its n_batches"
                if self.batches_per_pass is None:
                    remedy += ", or batches_per_pass of the scheduler"
                text = f"needs the length of loader {loader.name!r}, which has none; {remedy}"
                raise ConfigError(f"{type(self).__name__} {text}")
            found.append(size)
        return found
