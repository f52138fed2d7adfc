"""Processes of the command, several at a time."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

from ..utils.caught_signals import CAUGHT
from .child_order import ChildOrder

log = logging.getLogger(__name__)

TICK = 0.05
"""Seconds between two looks at the processes."""

Began = Callable[[ChildOrder], None]
Ended = Callable[[ChildOrder, "int | OSError"], None]


class ChildProcesses:
    """Processes of the command ``emloop-mtl``, some of them at a time.

    Each leads a session of its own: Ctrl-C, which a terminal sends to all that it has started, would reach them beside
    what is handed on to them, and two signals mean something else than one. The first SIGINT, SIGTERM or SIGHUP
    keeps further ones from being begun.

    :param at_once: how many
    :param environment: of them all
    :param began: called for each that was begun
    :param ended: called for each that has ended, with its exit code, which is less than 0 for a signal; or with the
        error that has kept it from being begun
    """

    def __init__(self, at_once: int, environment: Mapping[str, str], began: Began, ended: Ended) -> None:
        self.interrupted_by: signal.Signals | None = None
        self._at_once, self._environment = at_once, environment
        self._began, self._ended = began, ended
        self._running: list[tuple[ChildOrder, subprocess.Popen[bytes]]] = []
        self._received: list[int] = []

    def run(self, orders: Iterable[ChildOrder], tell: Callable[[], None]) -> None:
        """Carry orders out; return when all have ended, or all that were begun after a signal.

        :param orders: read one by one, when there is room for one more
        :param tell: called many times a second
        """
        waiting = iter(orders)
        with self._catching():
            try:
                while True:
                    self._hand_on()
                    while len(self._running) < self._at_once and self.interrupted_by is None:
                        order = next(waiting, None)
                        if order is None:
                            break
                        self._begin(order)
                    if not self._running:
                        return
                    time.sleep(TICK)
                    self._collect()
                    tell()
            finally:
                self._end()

    def _begin(self, order: ChildOrder) -> None:
        # -P: a module in the working folder must not take the place of one of ours.
        line = [sys.executable, "-P", "-m", "emloop_mtl", *order.words]
        try:
            with order.log.open("wb") as said:
                process = subprocess.Popen(
                    line,
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=subprocess.STDOUT,
                    env=dict(self._environment),
                    start_new_session=True,
                )
        except OSError as error:
            self._ended(order, error)
            return
        self._running.append((order, process))
        self._began(order)

    def _collect(self) -> None:
        for order, process in list(self._running):
            code = process.poll()
            if code is not None:
                self._running.remove((order, process))
                self._ended(order, code)

    def _hand_on(self) -> None:
        """Hand on what signals have come, to those that run."""
        while self._received:
            number = signal.Signals(self._received.pop(0))
            if self.interrupted_by is None:
                self.interrupted_by = number
                log.warning(
                    "%s: the trainings end at their next border; interrupt again to end them at once", number.name
                )
            for _, process in self._running:
                process.send_signal(number)

    def _end(self) -> None:
        """End what still runs because something has gone wrong here."""
        for _, process in self._running:
            process.terminate()
        for _, process in self._running:
            process.wait()
        self._running.clear()

    @contextmanager
    def _catching(self) -> Iterator[None]:
        """Keep signals for ``_hand_on``; a SIGHUP that is ignored, as under nohup, stays so."""
        before = {number: signal.getsignal(number) for number in CAUGHT}
        caught = [
            number
            for number, handler in before.items()  # one that C code has set could not be put back
            if handler is not None and not (number == signal.SIGHUP and handler == signal.SIG_IGN)
        ]
        for number in caught:
            signal.signal(number, self._receive)
        try:
            yield
        finally:
            for number in caught:
                signal.signal(number, before[number])

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._received.append(number)
