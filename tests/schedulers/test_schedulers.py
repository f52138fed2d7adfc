"""What every task scheduler promises, and the order of each."""

import gc
import logging
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emloop_mtl.data import Batch
from emloop_mtl.errors import ConfigError, DataError
from emloop_mtl.schedulers import AbstractTaskScheduler, Mixed, RoundRobin, Sequential


@dataclass
class FakeLoader:
    """Batches that tell loader, round and number, and how many of them were read."""

    name: str
    size: int
    known: bool = True
    n_batches: int | None = None
    read: int = field(default=0, compare=False)

    @property
    def num_batches(self) -> int | None:
        return self.size if self.known else None

    def batches(self, pass_number: int | tuple[int, int], start: int = 0) -> Iterator[Batch]:
        for number in range(start, self.size):
            self.read += 1
            yield Batch({"mark": [(self.name, pass_number, number)]}, data_name=self.name)


Walk = list[list[tuple[str, object, int]]]

loader_lists = st.lists(
    st.tuples(st.integers(0, 6), st.booleans(), st.one_of(st.none(), st.integers(0, 9))), min_size=1, max_size=4
).map(lambda rows: [FakeLoader("abcd"[i], *row) for i, row in enumerate(rows)])
schedulers = st.one_of(
    st.builds(Sequential, fillup=st.booleans(), every_batch=st.booleans()),
    st.builds(RoundRobin, fillup=st.booleans(), shuffle=st.booleans()),
    st.builds(Mixed, fillup=st.booleans()),
)


def walk(scheduler: AbstractTaskScheduler, loaders: list[FakeLoader], **options: int) -> Walk:
    steps = []
    for step in scheduler.steps(loaders, **options):
        assert [batch.ends_step for batch in step] == [False] * (len(step) - 1) + [True]
        steps.append([batch["mark"][0] for batch in step])
    return steps


def asked(scheduler: AbstractTaskScheduler, loaders: list[FakeLoader]) -> list[int] | None:
    """How many batches of each loader a pass has, said once more; None where the scheduler must refuse."""
    heeded = [
        loader.n_batches or None
        if not isinstance(scheduler, Mixed)
        and not (isinstance(scheduler, Sequential) and not scheduler._heeds_n_batches)
        else None
        for loader in loaders
    ]
    longest = max([loader.size for loader in loaders if loader.known], default=0)
    counts = []
    for loader, n_batches in zip(loaders, heeded, strict=True):
        needs_length = scheduler.fillup or getattr(scheduler, "shuffle", False)
        if needs_length and not loader.known and not n_batches:
            return None
        counts.append(n_batches or (longest if scheduler.fillup else loader.size))
        if loader.size == 0 and loader.known and counts[-1]:
            return None
    return [min(counts)] * len(counts) if isinstance(scheduler, Mixed) else counts


@given(schedulers, loader_lists, st.integers(0, 2))
def test_a_pass_holds_exactly_what_is_promised(
    scheduler: AbstractTaskScheduler, loaders: list[FakeLoader], pass_number: int
) -> None:
    counts = asked(scheduler, loaders)
    if counts is None:
        with pytest.raises(ConfigError):
            scheduler.num_steps(loaders)
        with pytest.raises(ConfigError):
            scheduler.steps(loaders)
        return
    if any(count and not loader.size for count, loader in zip(counts, loaders, strict=True)):
        # An empty loader that did not say so.
        with pytest.raises(DataError, match="is empty"):
            walk(scheduler, loaders)
        return
    steps = walk(scheduler, loaders, pass_number=pass_number)
    expected = min(counts) if isinstance(scheduler, Mixed) else sum(counts)
    assert len(steps) == expected
    assert scheduler.num_steps(loaders) in ([expected] if all(loader.known for loader in loaders) else [expected, None])
    shares = scheduler.shares(loaders)
    for loader, count, share in zip(loaders, counts, shares, strict=True):
        assert share in (count, None)
        marks = [mark for step in steps for mark in step if mark[0] == loader.name]
        rounds = [pass_number if i < loader.size else (pass_number, i // loader.size) for i in range(count)]
        assert marks == [(loader.name, rounds[i], i % loader.size) for i in range(count)]


@given(schedulers, loader_lists, st.integers(0, 3), st.integers(0, 40))
def test_a_walk_can_be_repeated_and_entered_anywhere(
    scheduler: AbstractTaskScheduler, loaders: list[FakeLoader], seed: int, start: int
) -> None:
    try:
        steps = walk(scheduler, loaders, seed=seed, pass_number=1)
    except (ConfigError, DataError):
        return
    assert walk(scheduler, loaders, seed=seed, pass_number=1) == steps
    for loader in loaders:
        loader.read = 0
    assert walk(scheduler, loaders, seed=seed, pass_number=1, start=start) == steps[start:]
    wanted = Counter(mark[0] for step in steps[start:] for mark in step)
    if all(loader.known for loader in loaders):
        assert {loader.name: loader.read for loader in loaders if loader.read} == wanted


def names(scheduler: AbstractTaskScheduler, *loaders: FakeLoader, **options: int) -> list[str]:
    return ["".join(mark[0] for mark in step) for step in walk(scheduler, list(loaders), **options)]


@pytest.mark.parametrize("known", [True, False])
def test_orders(known: bool) -> None:
    a, b, c = FakeLoader("a", 1, known), FakeLoader("b", 3, known), FakeLoader("c", 2, known)
    assert names(Sequential(), a, b, c) == list("abbbcc")
    assert names(RoundRobin(), a, b, c) == list("abcbcb")
    assert names(Mixed(), b, c) == ["bc", "bc"]


@pytest.mark.parametrize("scheduler", [Sequential(), RoundRobin(), Mixed()])
def test_a_pick_of_an_exhausted_loader_is_no_step_that_was_had(scheduler: AbstractTaskScheduler) -> None:
    loaders = [FakeLoader("a", 1, known=False), FakeLoader("b", 3, known=False), FakeLoader("c", 5)]
    steps = walk(scheduler, loaders)
    assert [walk(scheduler, loaders, start=start) for start in range(len(steps) + 1)] == [
        steps[start:] for start in range(len(steps) + 1)
    ]


def test_fillup_and_n_batches() -> None:
    a, b = FakeLoader("a", 2), FakeLoader("b", 3)
    assert names(Sequential(fillup=True), a, b) == list("aaabbb")
    assert names(RoundRobin(fillup=True), a, b) == list("ababab")
    assert names(Mixed(fillup=True), a, b) == ["ab"] * 3
    one = FakeLoader("a", 2, n_batches=5)
    assert names(Sequential(fillup=True), one, b) == list("aaaaabbb")
    assert names(Sequential(every_batch=True), one, b) == list("aabbb")
    assert names(RoundRobin(), FakeLoader("a", 9, known=False, n_batches=2), b) == list("ababb")


def test_a_loader_of_unknown_length_starts_over_for_its_n_batches() -> None:
    loader = FakeLoader("a", 2, known=False, n_batches=5)
    [*marks] = (mark for step in walk(Sequential(), [loader], pass_number=4) for mark in step)
    assert marks == [("a", 4, 0), ("a", 4, 1), ("a", (4, 1), 0), ("a", (4, 1), 1), ("a", (4, 2), 0)]


def test_mixed_drops_the_step_that_it_cannot_complete() -> None:
    a, b, c = FakeLoader("a", 3), FakeLoader("b", 2, known=False), FakeLoader("c", 5)
    assert names(Mixed(), a, b, c) == ["abc", "abc"]
    assert Mixed().num_steps([a, b, c]) is None


def test_mixed_says_once_that_n_batches_has_no_effect(caplog: pytest.LogCaptureFixture) -> None:
    scheduler, loaders = Mixed(), [FakeLoader("a", 2, n_batches=1), FakeLoader("b", 2)]
    with caplog.at_level(logging.WARNING):
        assert scheduler.num_steps(loaders) == 2
        walk(scheduler, loaders)
    assert [record.getMessage() for record in caplog.records] == [
        "Mixed takes a batch of every loader per step: n_batches of loader 'a' has no effect"
    ]


def test_shuffled_turns_differ_with_pass_and_seed_and_touch_no_global_generator() -> None:
    loaders = [FakeLoader("a", 20), FakeLoader("b", 10)]
    before = random.getstate(), torch.get_rng_state()
    walks = {
        tuple(names(RoundRobin(shuffle=True), *loaders, seed=seed, pass_number=number))
        for seed in range(2)
        for number in range(2)
    }
    assert len(walks) == 4
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


def test_shuffled_turns_are_weighted_by_size() -> None:
    first = Counter(next(RoundRobin(shuffle=True).picks([3, 1], seed=seed, pass_number=0))[0] for seed in range(2000))
    # 5 standard deviations of a binomial share: 5 * sqrt(0.75 * 0.25 / 2000) = 0.048
    assert abs(first[0] / 2000 - 0.75) < 0.048


@pytest.mark.parametrize(
    ("scheduler", "loader", "text"),
    [
        (
            RoundRobin(fillup=True),
            FakeLoader("b", 3, known=False),
            "RoundRobin with fillup needs the length of loader 'b'",
        ),
        (Mixed(fillup=True), FakeLoader("b", 3, known=False), "set fillup: false"),
        (
            RoundRobin(shuffle=True),
            FakeLoader("b", 3, known=False),
            "RoundRobin with shuffle needs the length of loader 'b'",
        ),
        (Sequential(fillup=True), FakeLoader("b", 0), "loader 'b' is empty, but 2 batches are asked of it; set fillup"),
        (
            Sequential(),
            FakeLoader("b", 0, n_batches=4),
            "loader 'b' is empty, but 4 batches are asked of it; unset its n_b",
        ),
    ],
)
def test_what_cannot_be_given_is_refused_before_the_first_batch(
    scheduler: AbstractTaskScheduler, loader: FakeLoader, text: str
) -> None:
    with pytest.raises(ConfigError, match=text):
        scheduler.steps([FakeLoader("a", 2), loader])


def test_a_loader_that_ends_before_its_length_is_an_error() -> None:
    class Liar(FakeLoader):
        @property
        def num_batches(self) -> int | None:
            return self.size + 1

    with pytest.raises(DataError, match="loader 'a' ended after 2 of 3 batches"):
        walk(Sequential(), [Liar("a", 2)])


def test_no_loaders_make_no_step() -> None:
    for scheduler in (Sequential(), RoundRobin(), RoundRobin(shuffle=True), Mixed()):
        assert walk(scheduler, []) == []
        assert scheduler.num_steps([]) == 0


def test_schedulers_without_state_have_an_empty_one() -> None:
    for scheduler in (Sequential(), RoundRobin(), Mixed()):
        assert scheduler.state_dict() == {}
        scheduler.load_state_dict({})


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("start", [0, 2])
def test_a_walk_that_is_left_leaves_no_loader_open(known: bool, start: int) -> None:
    left = []

    class Open(FakeLoader):
        def batches(self, pass_number: int | tuple[int, int], start: int = 0) -> Iterator[Batch]:
            try:
                yield from super().batches(pass_number, start)
            finally:
                left.append(self.name)

    gc.disable()  # which would find what refers to itself, but who knows when
    try:
        steps = RoundRobin().steps([Open("a", 5, known), Open("b", 5, known)], start=start)
        for _ in range(3):
            next(steps)
        assert left == []
        del steps
        assert sorted(left) == ["a", "b"]
    finally:
        gc.enable()
