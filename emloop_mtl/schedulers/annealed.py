"""Loaders with shares that become equal in the course of a training."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import ConfigError
from ..types import State
from .abstract_task_scheduler import Loader
from .drawn_scheduler import DrawnScheduler
from .temperature import check_alpha, powers_of


class Annealed(DrawnScheduler):
    """Take batches of each loader in proportion to a power of its size that changes from pass to pass.

    The power goes in equal steps from ``start`` in the first pass to ``end`` in the last one, and stays there: at
    first large loaders are seen as often as their size says, at the end small ones as often as they. This is the
    annealed sampling of Stickland and Murray 2019, "BERT and PALs", who end with 0.2. The size of a loader is its
    number of batches, or its ``n_batches``.

    :param passes: number of passes from the first to the last power, as many as the training has
    :param start: the first power, 0 or more
    :param end: the last power, 0 or more
    :param batches_per_pass: batches of one pass; None for as many as the loaders have together
    :raise ConfigError: for a value out of range

    .. code-block:: yaml

        class: Annealed
        passes: 20
        end: 0.2
    """

    def __init__(self, passes: int, start: float = 1.0, end: float = 0.0, batches_per_pass: int | None = None) -> None:
        super().__init__(batches_per_pass)
        if isinstance(passes, bool) or not isinstance(passes, int) or passes < 1:
            raise ConfigError(f"Annealed: passes must be a whole number, 1 or more, not {passes!r}", ("passes",))
        self._passes = passes
        self._start = check_alpha("Annealed", "start", start)
        self._end = check_alpha("Annealed", "end", end)

    def settings(self) -> dict[str, State]:
        return {**super().settings(), "passes": self._passes, "start": self._start, "end": self._end}

    def alpha(self, pass_number: int) -> float:
        """Return the power in a pass."""
        done = 1.0 if self._passes == 1 else min(pass_number / (self._passes - 1), 1.0)
        return self._start + (self._end - self._start) * done

    def weights(self, loaders: Sequence[Loader], pass_number: int) -> Sequence[float]:
        return powers_of(self.sizes(loaders), self.alpha(pass_number))
