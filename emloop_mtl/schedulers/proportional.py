"""Loaders with shares by their size."""

from __future__ import annotations

from collections.abc import Sequence

from .abstract_task_scheduler import Loader
from .drawn_scheduler import DrawnScheduler


class Proportional(DrawnScheduler):
    """Take batches of each loader in proportion to its size, in random order; AllenNLP's ``proportional``.

    Without ``batches_per_pass`` a pass holds every batch once, as with ``RoundRobin`` and ``shuffle``. The size of a
    loader is its number of batches, or its ``n_batches``.

    :param batches_per_pass: batches of one pass; None for as many as the loaders have together

    .. code-block:: yaml

        class: Proportional
        batches_per_pass: 1000
    """

    def weights(self, loaders: Sequence[Loader], pass_number: int) -> Sequence[float]:
        return self.sizes(loaders)
