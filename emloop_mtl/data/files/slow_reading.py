"""Telling of a file that takes long to be read."""

from __future__ import annotations

import logging
from time import perf_counter

log = logging.getLogger(__name__)

PATIENCE = 2.0
"""Seconds before it is worth a word."""


class SlowReading:
    """Says once in the log what takes long, when it does.

    :param text: what it is
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._due = perf_counter() + PATIENCE

    def tell(self) -> None:
        """Say it if it is time."""
        if perf_counter() > self._due:
            self._due = float("inf")
            log.info("%s", self._text)
