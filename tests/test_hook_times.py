from __future__ import annotations

from collections.abc import Callable

import pytest

from emloop_mtl.hook_times import EVERY, HookTimes


def walk(times: HookTimes, stream: str, batches: int, cost: Callable[[int], list[float]]) -> int:
    """Hand out batches as the list of hooks does; return how many were timed."""
    timed = 0
    for index in range(batches):
        if times.left and stream == times.stream:
            times.left -= 1
        else:
            times.add_batch(stream, cost(index))
            timed += 1
    return timed


@pytest.mark.parametrize("batches", [1, 2, 3, EVERY, 100, 1000])
def test_times_that_do_not_change_come_out_as_they_are_whatever_is_timed(batches: int) -> None:
    times = HookTimes(["a", "b"])
    timed = walk(times, "train", batches, lambda index: [0.5, 0.25] if index else [8.0, 0.0])
    assert timed == min(batches, 2) + max(0, batches - 2) // EVERY
    assert times.seconds() == {"a": 8 + 0.5 * (batches - 1), "b": 0.25 * (batches - 1)}
    assert times.seconds() == times.seconds()


def test_streams_are_timed_each_for_itself() -> None:
    times = HookTimes(["a"])
    walk(times, "train", 100, lambda index: [1.0])
    walk(times, "valid", 3, lambda index: [5.0])
    walk(times, "test", 1, lambda index: [7.0])
    assert times.seconds() == {"a": 100 + 15 + 7}


def test_what_happens_after_every_128th_batch_counts_in_the_right_proportion() -> None:
    times = HookTimes(["a"])
    batches = 128 * EVERY * 4
    walk(times, "train", batches, lambda index: [1.0 if index % 128 == 127 else 0.0])
    # 4 * EVERY times in truth; one in EVERY of them is timed and stands for EVERY, give or take the one at an end
    assert times.seconds()["a"] == pytest.approx(4 * EVERY, abs=EVERY)


def test_other_events_are_added_and_an_epoch_begins_with_nothing() -> None:
    times = HookTimes(["a"])
    times.add("b", 1.0)
    times.add("a", 2.0)
    times.add("b", 0.5)
    walk(times, "train", 2, lambda index: [1.0])
    assert times.seconds() == {"b": 1.5, "a": 4.0}
    times.begin()
    assert times.seconds() == {}
    walk(times, "train", 5, lambda index: [1.0])
    assert times.seconds() == {"a": 5.0}
