"""Loaders with equal shares."""

from __future__ import annotations

from collections.abc import Sequence

from .abstract_task_scheduler import Loader
from .drawn_scheduler import DrawnScheduler


class Uniform(DrawnScheduler):
    """Take as many batches of one loader as of another, in random order; AllenNLP's ``uniform``.

    :param batches_per_pass: batches of one pass; None for as many as the loaders have together

    .. code-block:: yaml

        class: Uniform
        batches_per_pass: 1000
    """

    def weights(self, loaders: Sequence[Loader], pass_number: int) -> Sequence[float]:
        return [1.0] * len(loaders)
