"""Reading ahead in a thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Generic, TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")

_reading = threading.local()


def in_consumer(act: Callable[[], R]) -> R:
    """Call ``act`` where nothing else is under way in the thread that takes the items of ``ReadAhead``.

    A thread that reads ahead waits until the next item is asked for, and has ``act`` called there. Anywhere else it is
    called at once. This is how processes have to be started: one that was forked while another thread held a lock,
    such as that of torch's random numbers while it draws some, would wait for this lock for ever.
    """
    reader: ReadAhead[Any] | None = getattr(_reading, "reader", None)
    return act() if reader is None else reader.call_in_consumer(act)


class _Closed(BaseException):
    """Raised in the thread that reads, where nobody will take another item."""


class ReadAhead(Generic[T]):
    """The items of a generator, at most ``size`` of them drawn ahead by a thread.

    The thread rests while ``size`` items wait, until half of them are taken: to wake it for each costs more than many
    an item. What the generator raises is raised where its item would have been. On CUDA the thread works in the stream
    of the one that made this, so that what it copies there without waiting is there for who uses it.

    :param items: the generator; from now on only the thread touches it
    :param size: how many items may wait
    :param name: name of the thread
    """

    def __init__(self, items: Generator[T, None, None], size: int, name: str) -> None:
        self._items = items
        self._size = size
        self._few = size // 2
        self._waiting: deque[T] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._ended = False
        self._error: BaseException | None = None
        self._call: _Call | None = None
        """What the thread waits for the consumer to call."""
        self._stream = _current_stream()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def __iter__(self) -> ReadAhead[T]:
        return self

    def __next__(self) -> T:
        # As long as items wait, none of the locks is needed: nobody else takes any.
        if not self._waiting or self._call is not None:
            self._wait()
        if self._waiting:
            item = self._waiting.popleft()
            # A thread that rests adds nothing, so that this number is met on the way down.
            if len(self._waiting) == self._few:
                with self._changed:
                    self._changed.notify_all()
            return item
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        raise StopIteration

    def _wait(self) -> None:
        """Wait for an item or the end, and call meanwhile what the thread asks for."""
        with self._changed:
            while True:
                if self._call is not None:
                    call, self._call = self._call, None
                    call()
                    self._changed.notify_all()
                if self._waiting or self._ended:
                    return
                self._changed.wait()

    def call_in_consumer(self, act: Callable[[], R]) -> R:
        """Have ``act`` called by the thread that takes the items, when it asks for the next; for the thread only.

        What it raises is raised here, and in the consumer too if that was interrupted.
        """
        call = _Call(act)
        with self._changed:
            self._call = call
            self._changed.notify_all()
            while not call.is_done:
                if self._closed:
                    self._call = None
                    raise _Closed
                self._changed.wait()
        if call.error is not None:
            raise call.error
        result: R = call.result
        return result

    def close(self, wait: bool = True) -> None:
        """Drop what was read ahead, and wait for the thread to end.

        :param wait: False leaves a thread that hangs in a read behind; it ends with the read, or the process
        """
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()
        if wait:
            self._thread.join()

    def _run(self) -> None:
        _reading.reader = self
        try:
            with self._stream:
                self._read()
        except BaseException as error:
            # The consumer's to handle.
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _read(self) -> None:
        for item in self._items:
            with self._changed:
                if len(self._waiting) >= self._size:
                    while len(self._waiting) > self._few and not self._closed:
                        self._changed.wait()
                if self._closed:
                    break
                self._waiting.append(item)
                self._changed.notify_all()
        self._items.close()


class _Call:
    """A call that one thread asks for and another makes."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self._act = act
        self.is_done = False
        self.result: Any = None
        self.error: BaseException | None = None

    def __call__(self) -> None:
        try:
            self.result = self._act()
        except BaseException as error:
            self.error = error
            if not isinstance(error, Exception):  # an interrupt is for the thread that it has come to
                raise
        finally:
            self.is_done = True


def _current_stream() -> AbstractContextManager[object]:
    """Return a context in which another thread works in the CUDA stream, and on the device, that this one is in."""
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return nullcontext()
    return torch.cuda.stream(torch.cuda.current_stream())
