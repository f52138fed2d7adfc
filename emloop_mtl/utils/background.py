"""Work that a thread does while the main thread goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Background:
    """One piece of work in a thread of its own; an error that ends it is kept.

    The thread keeps the process alive, so that no work is cut off where a process ends by itself.

    :param work: what to do; it may look at ``stop``, which is set when it shall break off
    :param then: called in the thread when the work has ended, well or not
    """

    def __init__(self, work: Callable[[threading.Event], None], then: Callable[[], None]) -> None:
        self._work = work
        self._then = then
        self._stop = threading.Event()
        self._ended = threading.Event()  # to join a thread cannot be interrupted without harm in Python 3.11
        self.error: BaseException | None = None
        """What has ended the work, None if that was its end."""
        threading.Thread(target=self._run, name="emloop-mtl background").start()

    @property
    def has_ended(self) -> bool:
        """Whether the work has ended, well or not."""
        return self._ended.is_set()

    def wait(self) -> None:
        """Wait for the end of the work."""
        self._ended.wait()

    def stop(self) -> None:
        """Have the work break off."""
        self._stop.set()

    def _run(self) -> None:
        try:
            self._work(self._stop)
        except BaseException as error:  # it belongs to the thread that asks for it
            self.error = error
        finally:
            self._ended.set()
            self._then()
