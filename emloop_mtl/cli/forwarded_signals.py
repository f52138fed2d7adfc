"""Signals that end the work of another process instead of this one's."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any

CAUGHT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class ForwardedSignals:
    """While entered, remember the first SIGINT, SIGTERM or SIGHUP, and hand each of them on to a process.

    A SIGHUP that is ignored, as under nohup, stays so. Entered in another thread than the main one, nothing is caught.
    """

    def __init__(self) -> None:
        self.caught: signal.Signals | None = None
        self._process: int | None = None
        self._before: dict[signal.Signals, Any] = {}

    def forward_to(self, process: int | None) -> None:
        """Hand signals on to a process from now on, one that was caught before as well; None for no process."""
        self._process = process
        if self.caught is not None:
            self._forward(self.caught)

    def __enter__(self) -> ForwardedSignals:
        if threading.current_thread() is threading.main_thread():
            for number in CAUGHT:
                before = signal.getsignal(number)
                if before is not None and not (number == signal.SIGHUP and before == signal.SIG_IGN):
                    self._before[number] = before
                    signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.caught = self.caught or signal.Signals(number)
        self._forward(number)

    def _forward(self, number: int) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(self._process, number)
