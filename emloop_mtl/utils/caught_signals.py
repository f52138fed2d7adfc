"""Turning SIGINT, SIGTERM and SIGHUP into a wish that is read at the next border."""

from __future__ import annotations

import _thread
import logging
import signal
import threading
from collections.abc import Callable
from time import monotonic
from types import FrameType, TracebackType
from typing import Any

from .isolated_random import IsolatedRandom
from .random import set_host_state
from .wait_given_up import WaitGivenUp

log = logging.getLogger(__name__)

CAUGHT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

KNOCK = 0.1
"""Seconds from one look at whether a wait has lasted too long to the next."""

WHOLE = {IsolatedRandom.__enter__.__code__, IsolatedRandom.__exit__.__code__, set_host_state.__code__}
"""Functions that are not left in their middle: the state of the random generators would be torn."""


class CaughtSignals:
    """While entered, remember the first SIGINT, SIGTERM or SIGHUP in ``caught``; a second SIGINT interrupts at once.

    Whoever waits may never get to a border. After a signal, a wait that lasts longer than ``patience`` allows ends
    with a ``WaitGivenUp``. A SIGHUP that is ignored, as under nohup, stays so. Python delivers signals to the main
    thread only; entered in another thread, nothing is caught.
    """

    def __init__(self) -> None:
        self.caught: signal.Signals | None = None
        self.patience: Callable[[], float | None] = _never
        """Returns how many seconds after the signal a wait that is under way may end; None if none is under way."""
        self._previous: dict[signal.Signals, Any] = {}
        self._since = 0.0
        self._thread = threading.main_thread().ident
        self._lock = threading.Lock()
        self._left = threading.Event()
        self._told = threading.Event()

    def __enter__(self) -> CaughtSignals:
        self.caught, self._since = None, 0.0
        self._left, self._told = threading.Event(), threading.Event()
        if threading.current_thread() is threading.main_thread():
            for number in CAUGHT:
                before = signal.getsignal(number)
                # One that C code has set could not be put back.
                if before is not None and not (number == signal.SIGHUP and before == signal.SIG_IGN):
                    self._previous[number] = before
                    signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:  # from here on nobody knocks: whoever gets the signals next would take it for a wish
            self._left.set()
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()
        if self._since:
            self._told.wait(1)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._left.is_set():  # on the way out, where an exception would leave the handlers behind
            self.caught = self.caught or signal.Signals(number)
        elif self.caught is None:
            self.caught, self._since = signal.Signals(number), monotonic()
            try:
                # A thread, because what the signal has interrupted may be writing to where the log goes. Not one of
                # ``threading``, whose lock it may hold.
                _thread.start_new_thread(self._watch, (self._left,))
            except RuntimeError:
                self._tell()
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        elif self._is_too_long() and not _is_inside(frame, WHOLE):
            raise WaitGivenUp

    def _watch(self, left: threading.Event) -> None:
        """Tell of the signal, then knock at the main thread if it waits for too long, until this is ``left``."""
        self._tell()
        while not left.wait(KNOCK):
            with self._lock:
                # A SIGTERM that is not the first signal has no other effect. It also ends the system call that waits.
                if self._is_too_long() and not left.is_set() and self._thread is not None:
                    signal.pthread_kill(self._thread, signal.SIGTERM)

    def _tell(self) -> None:
        assert self.caught is not None
        log.warning("%s: ending at the next border; interrupt again to end at once", self.caught.name)
        self._told.set()

    def _is_too_long(self) -> bool:
        patience = self.patience()
        return patience is not None and monotonic() - self._since >= patience


def _never() -> None:
    return None


def _is_inside(frame: FrameType | None, functions: set[Any]) -> bool:
    while frame is not None:
        if frame.f_code in functions:
            return True
        frame = frame.f_back
    return False
