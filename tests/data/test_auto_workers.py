"""``num_workers: auto``: what is decided, and that it changes no batch."""

import logging
import os
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset

from emloop_mtl.data import ColumnDataset, TaskLoader, auto_workers
from emloop_mtl.data.auto_workers import FEW, usable_cores
from emloop_mtl.data.worker_cost import WorkerCost
from emloop_mtl.errors import DataError
from emloop_mtl.utils.random import get_random_state

CHEAP, DEAR = WorkerCost(0.0, 1e-9), WorkerCost(100.0, 100.0)
"""So cheap that any reading is worth it, and so dear that none is.

Tests have two cores, and thus one process that reads: of more than there are cores torch warns.
"""


class Augmented(Dataset[Any]):
    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> Any:
        return {
            "row": index,
            "draws": [random.random(), np.random.rand(), torch.rand(1).item()],
            "process": os.getpid(),
        }


class AugmentedStream(IterableDataset[Any]):
    def __init__(self, size: int) -> None:
        self._rows = Augmented(size)

    def __iter__(self) -> Iterator[Any]:
        return (self._rows[index] for index in range(len(self._rows)))


@pytest.fixture(params=[CHEAP, DEAR], ids=["cheap", "dear"])
def cost(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> WorkerCost:
    monkeypatch.setattr(auto_workers, "SHORT", 0.0)
    monkeypatch.setattr(auto_workers, "usable_cores", lambda: 2)
    monkeypatch.setattr(WorkerCost, "measure", lambda dataset, batch: request.param)
    found: WorkerCost = request.param
    return found


def read(loader: TaskLoader, *where: Any) -> tuple[list[Any], list[int]]:
    """Return what the batches hold, and which process read each."""
    batches = list(loader.batches(*where))
    return [[batch["row"].tolist(), batch["draws"]] for batch in batches], [
        int(batch["process"][0]) for batch in batches
    ]


@pytest.mark.parametrize(
    ("seconds", "cost", "length", "most", "expected"),
    [
        (0.010, WorkerCost(0.0, 0.001), 100, 7, 7),  # 10 would keep the time at 1 ms a batch, 7 there may be
        (0.010, WorkerCost(0.0, 0.004), 100, 7, 3),  # 2.5 do
        (0.010, WorkerCost(0.0, 0.005), 100, 7, 2),  # half of the time is saved, no more is asked
        (0.010, WorkerCost(0.0, 0.006), 100, 7, 0),  # less than half
        (0.010, WorkerCost(0.3, 0.001), 100, 7, 10 - 3),  # starting takes 3 ms of each batch, 4 of 10 with the transfer
        (0.010, WorkerCost(0.5, 0.001), 100, 7, 0),  # 6 of 10
        (0.010, WorkerCost(0.5, 0.001), None, 7, 7),  # there is no end of them
        (0.010, WorkerCost(0.0, 0.0), 100, 7, 7),  # too fast for the clock
    ],
)
def test_how_many_processes_are_worth_it(
    seconds: float, cost: WorkerCost, length: int | None, most: int, expected: int
) -> None:
    assert cost.worthwhile(seconds, length, most) == expected


@pytest.mark.parametrize("start", [0, 3])
def test_rows_are_read_by_others_after_the_first_batches(cost: WorkerCost, start: int) -> None:
    loader = TaskLoader(Augmented(22), batch_size=2, seed=5, num_workers="auto")
    expected = read(TaskLoader(Augmented(22), batch_size=2, seed=5), 4, start)[0]
    state = get_random_state()["torch"]
    found, processes = read(loader, 4, start)
    assert found == expected
    assert torch.equal(get_random_state()["torch"], state)
    assert processes[:FEW] == [os.getpid()] * FEW
    others = set(processes[FEW:]) - {os.getpid()}
    assert len(others) == (1 if cost is CHEAP else 0)
    assert loader.deterministic == (cost is CHEAP)
    found, processes = read(loader, 5)
    assert found == read(TaskLoader(Augmented(22), batch_size=2, seed=5), 5)[0]
    assert (os.getpid() in processes) == (cost is DEAR)


def test_an_iterable_dataset_is_read_by_one_other_from_the_second_round_on(cost: WorkerCost) -> None:
    loader = TaskLoader(AugmentedStream(16), batch_size=2, seed=5, num_workers="auto")
    for number in range(3):
        found, processes = read(loader, number)
        assert found == read(TaskLoader(AugmentedStream(16), batch_size=2, seed=5), number)[0]
        assert len(set(processes)) == 1
        assert (processes[0] == os.getpid()) == (number == 0 or cost is DEAR)


def test_a_round_of_a_few_batches_decides_too(cost: WorkerCost) -> None:
    loader = TaskLoader(Augmented(4), batch_size=2, num_workers="auto")
    assert set(read(loader)[1]) == {os.getpid()}
    assert (os.getpid() in read(loader)[1]) == (cost is DEAR)
    assert TaskLoader(Augmented(0), batch_size=2, num_workers="auto").num_batches == len(read(loader, 0, 2)[0]) == 0


def test_the_log_tells_once_what_was_measured_and_chosen(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(auto_workers, "perf_counter", iter(range(1000)).__next__)  # each batch takes a second
    monkeypatch.setattr(auto_workers, "usable_cores", lambda: 2)
    monkeypatch.setattr(WorkerCost, "measure", lambda dataset, batch: WorkerCost(2.0, 0.25))
    loader = TaskLoader(Augmented(22), name="photos", batch_size=2, num_workers="auto")
    for number in range(2):
        read(loader, number)
    assert [record.message for record in caplog.records if record.name == auto_workers.__name__] == [
        "loader 'photos': num_workers auto is 1, a batch takes 1e+03 ms to read here, "
        "250 ms to come from a process that takes 2 s to start; 2 cores"
    ]


def test_what_is_left_to_this_process(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def fail(dataset: object, batch: object) -> WorkerCost:
        raise OSError("no more\nprocesses")

    def reason(dataset: Any) -> str:
        caplog.clear()
        loader = TaskLoader(dataset, name="d", batch_size=2, num_workers="auto")
        list(loader)
        assert loader.deterministic == isinstance(dataset, ColumnDataset)
        [message] = [record.message for record in caplog.records if record.name == auto_workers.__name__]
        return message.removeprefix("loader 'd': num_workers auto is 0, ")

    caplog.set_level(logging.INFO)
    monkeypatch.setattr(WorkerCost, "measure", fail)
    monkeypatch.setattr(auto_workers, "usable_cores", lambda: 4)
    columns = ColumnDataset("d", {"x": torch.zeros(8)})
    assert reason(columns) == "columns are read faster than they come from another process"
    assert "ms to read here, a round of them " in reason(Augmented(22))  # it takes far less than a second
    monkeypatch.setattr(auto_workers, "SHORT", 0.0)
    assert reason(Augmented(22)).endswith("ms to read here, and no other process can do it: no more processes")
    monkeypatch.setattr(auto_workers, "usable_cores", lambda: 1)
    assert reason(Augmented(22)).endswith("ms to read here, and there is one core only")


def test_what_a_process_costs_is_measured() -> None:
    cost = WorkerCost.measure(Augmented(3), {"x": torch.zeros(3)})
    assert cost.start > 0
    assert cost.transfer > 0


def test_what_cannot_be_sent_is_an_error() -> None:
    with pytest.raises(DataError, match="Can't pickle local object"):
        WorkerCost.measure(Augmented(3), {"x": [lambda: 0]})


def test_cores_are_shared_between_the_processes_of_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 3, 5}, raising=False)
    assert usable_cores() == 5
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert usable_cores() == 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert usable_cores() == 1
