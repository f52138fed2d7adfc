"""How much is measured."""

from __future__ import annotations

from typing import NamedTuple


class Sizes(NamedTuple):
    """How much is measured.

    :param rounds: processes of each kind
    :param share: steps of an epoch, in times of the workload's own
    :param epochs: epochs of a process, of which the fastest counts
    :param samples: samples of each task to score
    :param draws: draws of a task scheduler in a pass
    :param more: hooks, or tasks, to add where one more is measured
    """

    rounds: int = 3
    share: float = 0.5
    epochs: int = 3
    samples: tuple[int, int] = (10_000, 100_000)
    draws: int = 1_000_000
    more_hooks: int = 100
    more_tasks: int = 20

    def steps(self, full: int, multiple: int = 4) -> int:
        """Return the steps of an epoch that has ``full`` at full size; by default whole rounds of four tasks."""
        return multiple * max(1, round(full * self.share / multiple))


QUICK = Sizes(rounds=1, share=0.01, epochs=2, samples=(200, 400), draws=1000, more_hooks=2, more_tasks=2)
