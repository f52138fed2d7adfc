"""The orders of batches that Emmental 0.1.1 made, held against ours: real loaders, real streams, two passes each.

Emmental draws the turns of its round robin, and the rows of loaders that shuffle, from global random generators. Ours
come from generators of their own, so these orders are compared by what they promise: how many batches of which loader,
in which order within it, which rows in a round, and a chance for every order.
"""

from __future__ import annotations

import json
import logging
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from math import factorial, prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from emloop_mtl import ColumnDataset, MultiTaskDataset, TaskLoader
from emloop_mtl.data.stream_wrapper import StreamWrapper
from emloop_mtl.schedulers import AbstractTaskScheduler, Mixed, RoundRobin, Sequential

VECTORS = json.loads(Path(__file__).with_suffix("").with_name("schedulers.json").read_text(encoding="utf-8"))
CASES: dict[str, dict[str, Any]] = {case["name"]: case for case in VECTORS["cases"]}

DIFFERENCES = {
    "order of turns": "RoundRobin draws it from the dataset's seed and the pass, not from a generator that everybody "
    "else draws from, so that nothing but the seed changes what a model is trained on",
    "order of rows": "a loader that shuffles draws it from seed, loader and pass, for the same reason",
    "default of RoundRobin": "it takes the loaders in turn, as its name says; the random order is `shuffle: true`",
    "n_batches with Mixed": "it has no effect in either, but here a warning says so",
}

Entry = tuple[int, Any]
"""Number of the loader, and the number of the batch within it, or its rows where the loader shuffles."""

Steps = list[list[Entry]]


class Made(MultiTaskDataset):
    """The data of a case: a loader for each size, whose rows are their own numbers."""

    def __init__(self, case: dict[str, Any], scheduler: AbstractTaskScheduler, seed: int = 0) -> None:
        super().__init__(seed=seed, streams={"train": {"scheduler": scheduler}})
        self.case = case

    def loaders(self) -> list[TaskLoader]:
        case = self.case
        return [
            TaskLoader(
                ColumnDataset(f"data{number}", {"x": torch.arange(size)}, {"y": torch.zeros(size)}),
                {f"task{number}": "y" if case["labels"] else None},
                "train",
                batch_size=4,
                shuffle=case["shuffle"],
                n_batches=n_batches,
                drop_last=case["drop_last"],
            )
            for number, (size, n_batches) in enumerate(zip(case["sizes"], case["n_batches"], strict=True))
        ]


def scheduler_of(case: dict[str, Any]) -> AbstractTaskScheduler:
    if case["scheduler"] == "round_robin":
        return RoundRobin(fillup=case["fillup"], shuffle=True)
    return {"sequential": Sequential, "mixed": Mixed}[case["scheduler"]](fillup=case["fillup"])


def passes_of(dataset: Made, count: int = 2) -> list[Steps]:
    """Walk the train stream as a training does, one pass per epoch."""
    method = dataset.stream("train")
    assert method is not None
    stream = StreamWrapper(method, name="train")
    passes: list[Steps] = []
    for number in range(count):
        steps: Steps = [[]]
        for batch in stream:
            loader = int(batch.data_name.removeprefix("data"))
            rows = batch["x"].tolist()
            assert batch["_uids_"].tolist() == rows
            assert batch.tasks == {f"task{loader}": "y" if dataset.case["labels"] else None}
            assert batch.split == "train"
            steps[-1].append(
                (loader, rows if dataset.case["shuffle"] else number_of(rows, dataset.case["sizes"][loader]))
            )
            if batch.ends_step:
                steps.append([])
        assert steps.pop() == []
        passes.append(steps)
        assert stream.passes == number + 1
    return passes


def number_of(rows: list[int], size: int) -> int:
    number = rows[0] // 4
    assert rows == list(range(4 * number, min(4 * number + 4, size)))
    return number


def theirs_of(case: dict[str, Any]) -> list[Steps]:
    return [[[(loader, entry) for loader, entry in step] for step in steps] for steps in case["passes"]]


def of_loader(steps: Steps, loader: int) -> list[Any]:
    return [entry for step in steps for index, entry in step if index == loader]


def turns(steps: Steps) -> list[list[int]]:
    return [[loader for loader, _ in step] for step in steps]


def check_rounds(batches: list[list[int]], size: int) -> None:
    """Check that each round through a loader that shuffles has every row once, in another order than the one before."""
    length = -(-size // 4)
    chunks = [batches[start : start + length] for start in range(0, len(batches), length)]
    rounds = [[row for rows in chunk for row in rows] for chunk in chunks]
    for rows in rounds[:-1]:
        assert sorted(rows) == list(range(size))
    assert len(set(rounds[-1])) == len(rounds[-1])
    assert set(rounds[-1]) <= set(range(size))
    assert len(rounds[-1]) == size or len(batches) % length
    for one, other in pairwise(rounds):
        assert one[: len(other)] != other


@contextmanager
def isolated() -> Iterator[None]:
    state = random.getstate(), torch.get_rng_state()
    yield
    random.setstate(state[0])
    torch.set_rng_state(state[1])


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    """Whatever is walked draws nothing from global generators."""
    before = random.getstate(), np.random.get_state(legacy=False), torch.get_rng_state()
    yield
    assert random.getstate() == before[0]
    assert str(np.random.get_state(legacy=False)) == str(before[1])
    assert torch.equal(torch.get_rng_state(), before[2])


@pytest.mark.parametrize("name", CASES)
def test_a_pass_has_the_batches_that_emmental_takes(name: str) -> None:
    case = CASES[name]
    dataset = Made(case, scheduler_of(case))
    stream = dataset.task_streams["train"]
    assert [loader.num_batches for loader in stream.loaders] == case["lengths"]
    assert stream.num_steps == case["num_batches"]
    # The stream alone, too: the wrapper around it stops reading where it expects the end.
    assert [sum(batch.ends_step for batch in stream.iterate(number)) for number in range(2)] == [stream.num_steps] * 2
    ours, theirs = passes_of(dataset), theirs_of(case)
    for our_pass, their_pass in zip(ours, theirs, strict=True):
        assert len(our_pass) == len(their_pass) == case["num_batches"]
        assert stream.num_batches == sum(map(len, our_pass))
        if case["scheduler"] != "round_robin":
            assert turns(our_pass) == turns(their_pass)
        for loader, size in enumerate(case["sizes"]):
            mine, others = of_loader(our_pass, loader), of_loader(their_pass, loader)
            if case["shuffle"]:
                assert [len(rows) for rows in mine] == [len(rows) for rows in others]
                check_rounds(mine, size)
                check_rounds(others, size)
                assert mine != others, DIFFERENCES["order of rows"]
            else:
                assert mine == others
    if case["scheduler"] != "round_robin" and not case["shuffle"]:
        assert ours == theirs


def test_the_turns_differ_from_those_recorded() -> None:
    cases = [case for case in CASES.values() if case["scheduler"] == "round_robin" and len(case["sizes"]) > 1]
    assert len(cases) > 30
    differ = [
        [turns(steps) for steps in passes_of(Made(case, scheduler_of(case)))] != [*map(turns, theirs_of(case))]
        for case in cases
    ]
    # Two passes of [3, 5] batches are alike with a chance of 1 / 56², those of [4, 1] with 1 / 25.
    assert sum(differ) > len(cases) - 3, DIFFERENCES["order of turns"]


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("round_robin")])
def test_round_robin_takes_the_same_batches_in_turn_by_default(name: str) -> None:
    case = CASES[name]
    dataset = Made(case, RoundRobin(fillup=case["fillup"]))
    stream = dataset.task_streams["train"]
    counts = [len(of_loader(theirs_of(case)[0], loader)) for loader in range(len(case["sizes"]))]
    assert stream.num_steps == sum(counts)
    in_turn = [[loader] for number in range(max(counts)) for loader, count in enumerate(counts) if number < count]
    for steps, recorded in zip(passes_of(dataset), theirs_of(case), strict=True):
        assert turns(steps) == in_turn
        if not case["shuffle"]:
            for loader in range(len(counts)):
                assert of_loader(steps, loader) == of_loader(recorded, loader)


def test_emmentals_turns_are_not_in_turn() -> None:
    cases = [case for case in CASES.values() if case["scheduler"] == "round_robin" and len(case["sizes"]) > 1]
    alike = [
        turns(passes_of(Made(case, RoundRobin(fillup=case["fillup"])), 1)[0]) == turns(theirs_of(case)[0])
        for case in cases
    ]
    assert not any(alike), DIFFERENCES["default of RoundRobin"]


@pytest.mark.parametrize("lengths", [[3, 5], [4, 1], [2, 2, 2], [1, 7], [2, 1, 2, 1]])
def test_every_order_of_turns_is_equally_likely(lengths: list[int]) -> None:
    """A shuffled list of turns has each of its arrangements with the same chance; a chi-square test of that.

    The error probability is one in a million: passes are numbered, so the test either fails for ever or never does.
    """
    arrangements = factorial(sum(lengths)) // prod(map(factorial, lengths))
    expected = 40  # of each; the chi-square approximation wants 5 or more
    scheduler = RoundRobin(shuffle=True)
    found = Counter(
        tuple(index for (index,) in scheduler.picks(lengths, seed=3, pass_number=number))
        for number in range(expected * arrangements)
    )
    statistic = sum((count - expected) ** 2 / expected for count in found.values())
    statistic += (arrangements - len(found)) * expected
    assert statistic < chi2.isf(1e-6, arrangements - 1)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case["shuffle"] or name.startswith("round")])
def test_orders_are_the_same_for_seed_and_pass_and_else_differ(name: str) -> None:
    case = {**CASES[name], "sizes": [8 * size for size in CASES[name]["sizes"]]}  # so that no two are alike by chance
    first = passes_of(Made(case, scheduler_of(case)))
    dataset = Made(case, scheduler_of(case))
    with isolated():
        random.seed(1)
        torch.manual_seed(1)
        again = passes_of(dataset)
        assert passes_of(dataset) == again == first  # a second walk, as an evaluation makes one
    other_seed = passes_of(Made(case, scheduler_of(case), seed=1))
    if len(case["sizes"]) > 1 or case["shuffle"]:
        assert len({repr(steps) for steps in (*first, *other_seed)}) == 4


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("mixed")])
def test_mixed_says_that_n_batches_has_no_effect(name: str, caplog: pytest.LogCaptureFixture) -> None:
    case = CASES[name]
    with caplog.at_level(logging.WARNING):
        passes = passes_of(Made(case, Mixed(fillup=case["fillup"])))
    limited = [f"data{number}" for number, n_batches in enumerate(case["n_batches"]) if n_batches]
    text = "Mixed takes a batch of every loader per step: n_batches of loader {!r} has no effect"
    assert caplog.messages == [text.format(name) for name in limited[:1]], DIFFERENCES["n_batches with Mixed"]
    unlimited = {**case, "n_batches": [None] * len(case["sizes"])}
    assert passes_of(Made(unlimited, Mixed(fillup=case["fillup"]))) == passes


def test_the_vectors_hold_what_they_are_to_hold() -> None:
    assert len(CASES) == len(VECTORS["cases"]) == 88
    kinds = Counter(case["scheduler"] for case in CASES.values())
    assert set(kinds) == {"mixed", "round_robin", "sequential"}
    for setting in ("fillup", "shuffle", "drop_last", "labels"):
        assert {case[setting] for case in CASES.values()} == {True, False}
    assert not any(case["shuffle"] and case["drop_last"] for case in CASES.values())  # else rounds lack rows
