"""Turning SIGINT and SIGTERM into a wish that is read at the next border."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

log = logging.getLogger(__name__)


class CaughtSignals:
    """While entered, remember the first SIGINT or SIGTERM in ``caught``; a second SIGINT interrupts at once.

    Python delivers signals to the main thread only; entered in another thread, nothing is caught.
    """

    def __init__(self) -> None:
        self.caught: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> CaughtSignals:
        self.caught = None
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.caught is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        if self.caught is None:
            self.caught = signal.Signals(number)
            log.warning("%s: ending at the next border; interrupt again to end at once", self.caught.name)
