"""Log how long the model takes for an example."""

from __future__ import annotations

import logging
from collections.abc import Collection
from statistics import fmean, median
from typing import Any

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.types import EpochNumber, TimeProfile

from ..arguments import check_count

log = logging.getLogger(__name__)


class Benchmark(AbstractHook):
    """Log the mean and the median time that the model takes for an example, for each stream of every epoch.

    They are those of ``model.run``, divided by the size of a batch. The last batch of a stream, which may be smaller,
    does not count; a stream of a single batch has no times. On a device that works on its own the time is that of
    handing it the work.

    :param batch_size: how many examples a batch has
    :raise ConfigError: if it is no positive whole number

    .. code-block:: yaml

        hooks:
          - Benchmark: {batch_size: 64}
    """

    def __init__(self, batch_size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._batch_size = check_count(self.name, "batch_size", batch_size)

    def requires(self) -> Collection[str | EpochNumber]:
        """Return nothing."""
        return ()

    def provides(self) -> Collection[str | EpochNumber]:
        """Return nothing."""
        return ()

    def after_epoch_profile(self, epoch_id: int, profile: TimeProfile, streams: list[str]) -> None:
        """Log the times."""
        for stream in streams:
            times = [seconds / self._batch_size for seconds in profile.get(f"eval_batch_{stream}", ())[:-1]]
            if times:
                text = "%s - time per example: mean=%.5fs, median=%.5fs"
                log.info(text, stream, fmean(times), median(times))
            else:
                log.info("%s - time per example: there is none without a second batch", stream)
