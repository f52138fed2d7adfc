"""Telling how far something is that takes long and shows nothing."""

from __future__ import annotations

import logging
from time import monotonic

log = logging.getLogger(__name__)

EVERY = 5.0
"""Seconds between two lines in the log."""


class ReadingAgain:
    """Says in the log that batches are read again that were had before, and every few seconds how many of them were.

    :param what: whose batches they are
    :param total: how many will be read again, None where that is not known
    """

    def __init__(self, what: str, total: int | None) -> None:
        self._what = what
        self._of = "" if total is None else f" of {total}"
        self.done = 0
        """How many were read again."""
        self._next = monotonic() + EVERY
        first = "batches that were had before are" if total is None else f"its first {total} batches are"
        log.info("%s: %s read again to go on after them", what, first)

    def count(self) -> None:
        """Count a batch that was read again."""
        self.done += 1
        now = monotonic()
        if now >= self._next:
            self._next = now + EVERY
            log.info("%s: %i%s batches are read again", self._what, self.done, self._of)
