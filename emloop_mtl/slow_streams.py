"""Telling which streams are slower than the model."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from .types import TimeProfile

log = logging.getLogger(__name__)

LEAST_SHARE = 0.3
"""The share of a stream's time from which waiting for its data is worth a word."""

LEAST_SECONDS = 5.0
"""Seconds of waiting in an epoch below which nobody would notice."""


class SlowStreams:
    """Warns of a stream that the model waits for, once for each.

    :param buffer: how many batches are read ahead, which decides what to advise
    """

    def __init__(self, buffer: int) -> None:
        self._advice = "num_workers: auto of a loader lets processes read, if that is faster"
        if not buffer:
            self._advice = f"main_loop.buffer reads ahead in a thread, {self._advice}"
        self._told: set[str] = set()

    def tell(self, profile: TimeProfile, streams: Iterable[str]) -> None:
        """Warn of the streams whose batches were waited for too long.

        :param profile: the seconds of an epoch, as hooks get them in ``after_epoch_profile``
        :param streams: the streams of the epoch
        """
        for name in streams:
            waited, ran, hooks = (
                sum(profile.get(f"{activity}_{name}", ()))
                for activity in ("read_batch", "eval_batch", "after_batch_hooks")
            )
            total = waited + ran + hooks
            if name not in self._told and waited >= LEAST_SECONDS and waited >= LEAST_SHARE * total:
                self._told.add(name)
                text = "stream %r: %.0f %% of its %.3g s went by in waiting for data; %s"
                log.warning(text, name, 100 * waited / total, total, self._advice)
