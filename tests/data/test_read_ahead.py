"""Reading ahead in a thread."""

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from emloop_mtl.data.read_ahead import ReadAhead, in_consumer


def numbers(stop: int, log: list[int], then: type[BaseException] | None = None) -> Generator[int, None, None]:
    try:
        for i in range(stop):
            log.append(i)
            yield i
        if then is not None:
            raise then("told to")
    finally:
        log.append(-1)


def wait_until_it_rests(items: ReadAhead[Any]) -> None:
    """Wait until the thread does nothing more before the next item is asked for, or has ended."""
    while items._thread.is_alive() and not items._changed._waiters:  # type: ignore[attr-defined]
        time.sleep(0.001)


def test_items_arrive_in_order_and_no_more_are_drawn_than_fit() -> None:
    log: list[int] = []
    items = ReadAhead(numbers(10, log), 3, "reader")
    wait_until_it_rests(items)
    assert next(items) == 0
    # Items 1 and 2 wait, and 3 is in the hand of the thread, which rests until half of its 3 are taken.
    assert log == [0, 1, 2, 3]
    assert next(items) == 1
    wait_until_it_rests(items)
    # 2 to 4 wait, and 5 is in the thread's hand.
    assert log == [0, 1, 2, 3, 4, 5]
    assert list(items) == list(range(2, 10))
    with pytest.raises(StopIteration):
        next(items)
    items.close()


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_errors_arrive_in_the_place_of_their_item(error: type[BaseException]) -> None:
    items = ReadAhead(numbers(2, [], error), 5, "reader")
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(error, match="told to"):
        next(items)
    items.close()


@pytest.mark.parametrize("consumed", [0, 1, 4])
def test_close_ends_the_thread_and_the_generator(consumed: int) -> None:
    log: list[int] = []
    items = ReadAhead(numbers(1000, log), 2, "reader-to-close")
    for _ in range(consumed):
        next(items)
    items.close()
    items.close()
    assert "reader-to-close" not in [thread.name for thread in threading.enumerate()]
    assert len(log) < 1000
    if log:
        assert log[-1] == -1


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_nobody_waits_for_ever(size: int) -> None:
    for count in range(40):
        assert list(ReadAhead(numbers(count, []), size, "reader")) == list(range(count))
    slow = ReadAhead(numbers(20, []), size, "reader")
    taken = []
    for item in slow:
        taken.append(item)
        time.sleep(0.001 * (item % 3))  # the thread gets its items ready, and rests
    assert taken == list(range(20))


def test_a_thread_that_hangs_can_be_left_behind() -> None:
    hanging = threading.Event()

    def hang() -> Generator[int, None, None]:
        hanging.wait()
        yield 0

    items = ReadAhead(hang(), 1, "reader")
    items.close(wait=False)
    assert any(thread.name == "reader" for thread in threading.enumerate())
    hanging.set()
    items.close()
    assert all(thread.name != "reader" for thread in threading.enumerate())


def test_the_thread_works_in_the_stream_of_who_made_it(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []

    @contextmanager
    def stream(number: int) -> Generator[None, None, None]:
        threads.append(f"{threading.current_thread().name} enters {number}")
        yield
        threads.append(f"{threading.current_thread().name} leaves {number}")

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: 7)
    monkeypatch.setattr(torch.cuda, "stream", stream)
    items = ReadAhead(numbers(3, []), 2, "reader")
    assert list(items) == [0, 1, 2]
    items.close()
    assert threads == ["reader enters 7", "reader leaves 7"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_what_the_thread_copies_to_cuda_is_there_for_who_uses_it() -> None:
    def batches() -> Generator[torch.Tensor, None, None]:
        for number in range(50):
            yield torch.full((2**20,), float(number)).pin_memory().to("cuda", non_blocking=True)

    torch.cuda.init()  # type: ignore[no-untyped-call]
    with torch.cuda.stream(torch.cuda.Stream()):  # type: ignore[no-untyped-call]
        items = ReadAhead(batches(), 4, "reader")
        assert [(item * 2).sum().item() for item in items] == [2.0 * number * 2**20 for number in range(50)]


def test_what_the_thread_has_called_is_called_where_the_next_item_is_asked_for() -> None:
    def read() -> Generator[str, None, None]:
        for _ in range(3):
            yield in_consumer(lambda: threading.current_thread().name)
            yield threading.current_thread().name

    here = threading.current_thread().name
    assert list(ReadAhead(read(), 4, "reader")) == [here, "reader"] * 3
    assert in_consumer(lambda: threading.current_thread().name) == here


def test_a_call_waits_until_an_item_is_asked_for_and_loses_none() -> None:
    log: list[int] = []

    def read() -> Generator[int, None, None]:
        yield from numbers(3, log)
        in_consumer(lambda: log.append(3))
        yield 3

    items = ReadAhead(read(), 8, "reader")
    wait_until_it_rests(items)
    assert log == [0, 1, 2, -1]
    assert next(items) == 0
    assert log == [0, 1, 2, -1, 3]
    assert list(items) == [1, 2, 3]


def test_what_a_call_raises_is_raised_in_the_thread_that_asked_for_it() -> None:
    def fail() -> None:
        raise ValueError("no room")

    def read() -> Generator[str, None, None]:
        try:
            in_consumer(fail)
        except ValueError as error:
            yield f"caught {error}"

    assert list(ReadAhead(read(), 2, "reader")) == ["caught no room"]


def test_an_interrupt_of_a_call_reaches_who_takes_the_items() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    def read() -> Generator[int, None, None]:
        in_consumer(interrupt)
        yield 0

    items = ReadAhead(read(), 2, "reader-to-interrupt")
    with pytest.raises(KeyboardInterrupt):
        next(items)
    items.close()
    assert "reader-to-interrupt" not in [thread.name for thread in threading.enumerate()]


def test_close_ends_a_thread_that_waits_for_a_call() -> None:
    log: list[int] = []

    def read() -> Generator[int, None, None]:
        try:
            log.append(0)
            in_consumer(lambda: log.append(1))
            yield 1
        finally:
            log.append(-1)

    items = ReadAhead(read(), 2, "reader-that-asks")
    wait_until_it_rests(items)
    items.close()
    assert "reader-that-asks" not in [thread.name for thread in threading.enumerate()]
    assert log == [0, -1]
