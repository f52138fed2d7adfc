"""Reading ahead in a thread."""

import threading
import time
from collections.abc import Generator

import pytest

from emloop_mtl.data.read_ahead import ReadAhead


def numbers(stop: int, log: list[int], then: type[BaseException] | None = None) -> Generator[int, None, None]:
    try:
        for i in range(stop):
            log.append(i)
            yield i
        if then is not None:
            raise then("told to")
    finally:
        log.append(-1)


def wait_for(log: list[int], length: int) -> None:
    # 5 s: far more than a thread needs to draw a few numbers on the busiest machine.
    deadline = time.monotonic() + 5
    while len(log) < length and time.monotonic() < deadline:
        time.sleep(0.001)


def test_items_arrive_in_order_and_no_more_are_drawn_than_fit() -> None:
    log: list[int] = []
    items = ReadAhead(numbers(10, log), 3, "reader")
    assert next(items) == 0
    wait_for(log, 5)
    time.sleep(0.02)
    # Item 0 is consumed, 1 to 3 wait, and 4 is in the thread's hand.
    assert log == [0, 1, 2, 3, 4]
    assert list(items) == list(range(1, 10))
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
