"""Going on in the middle of a pass: what is not read again, what is and says so, and how batches are counted."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset, IterableDataset

from emloop_mtl.data import Batch, ColumnDataset, StreamWrapper, TaskLoader, TaskStream
from emloop_mtl.errors import DataError
from emloop_mtl.schedulers import AbstractTaskScheduler, Mixed, RoundRobin, Sequential
from emloop_mtl.utils import reading_again
from emloop_mtl.utils.reading_again import ReadingAgain


def shared_counts(size: int) -> torch.Tensor:
    counts = torch.zeros(size, dtype=torch.int64)
    counts.share_memory_()  # type: ignore[no-untyped-call]
    return counts


class Counted(Dataset[Any]):
    """Counts how often each row is read, in all processes together."""

    def __init__(self, size: int) -> None:
        self.reads = shared_counts(size)

    def __len__(self) -> int:
        return len(self.reads)

    def __getitem__(self, index: int) -> Any:
        self.reads[index] += 1
        return {"x": index}


class CountedColumns(ColumnDataset):
    """The same of columns."""

    def __init__(self, size: int) -> None:
        super().__init__("columns", {"x": torch.arange(size)})
        self.reads = shared_counts(size)

    def __getitems__(self, indices: Any) -> dict[str, Any]:
        self.reads[indices] += 1
        return super().__getitems__(indices)


SCHEDULERS: dict[str, AbstractTaskScheduler] = {
    "round robin": RoundRobin(fillup=True),
    "shuffled": RoundRobin(shuffle=True),
    "mixed": Mixed(fillup=True),
    "sequential": Sequential(),
}


@pytest.mark.parametrize("buffer", [0, 2])
@pytest.mark.parametrize(
    ("scheduler", "kind", "workers"),
    [
        *((SCHEDULERS[name], kind, 0) for name in SCHEDULERS for kind in (Counted, CountedColumns)),
        # Without fillup: processes read ahead, also of a round that is not taken to its end.
        (SCHEDULERS["shuffled"], Counted, 2),
        (Mixed(), Counted, 2),
    ],
    ids=[
        *(f"{name}-{kind}" for name in SCHEDULERS for kind in ("rows", "columns")),
        *("shuffled-processes", "mixed-processes"),
    ],
)
def test_rows_that_were_consumed_are_not_read_again(
    scheduler: AbstractTaskScheduler, kind: Any, workers: int, buffer: int
) -> None:
    consumed = 5  # for Mixed in the middle of a step, as an evaluation may be

    def make(num_workers: int) -> tuple[list[Any], StreamWrapper]:
        # Mixed drops what the longer one has too much.
        datasets = [kind(6 if type(scheduler) is Mixed and workers else 7), kind(5)]
        loaders = [
            TaskLoader(dataset, name=name, batch_size=2, num_workers=num_workers, deterministic=True)
            for name, dataset in zip("ab", datasets, strict=True)
        ]
        stream = TaskStream(loaders, scheduler)
        return datasets, StreamWrapper(lambda: stream, buffer, name="s")

    _, first = make(0)
    batches = iter(first)
    had = [next(batches) for _ in range(consumed)]
    state = first.state_dict()
    rest = list(batches)
    first.close()
    datasets, second = make(workers)
    second.load_state_dict(state)
    assert [batch["x"].tolist() for batch in second] == [batch["x"].tolist() for batch in rest]
    second.close()
    for dataset, name in zip(datasets, "ab", strict=True):
        expected = torch.zeros(len(dataset), dtype=torch.int64)
        for batch in rest:
            if batch.data_name == name:
                expected[batch["x"]] += 1
        assert dataset.reads.tolist() == expected.tolist()
    assert len(had) == consumed


# ------------------------------------------------------------------------------------------------- what is read again


class Endless(IterableDataset[Any]):
    """Has no end, or a length."""

    def __iter__(self) -> Iterator[Any]:
        number = 0
        while True:
            yield {"x": number}
            number += 1


class Sized(Endless):
    def __len__(self) -> int:
        return 40


def numbers() -> Iterator[Any]:
    for number in range(40):
        yield {"x": [number]}


STREAMS: dict[str, tuple[Any, str]] = {
    "generator": (numbers, "stream 's': its first {} batches are"),
    "iterable of unknown length": (
        lambda: TaskStream([TaskLoader(Endless(), name="i", batch_size=1)]),
        "loader 'i': batches that were had before are",
    ),
    "iterable of known length": (
        lambda: TaskStream([TaskLoader(Sized(), name="i", batch_size=1)]),
        "loader 'i': its first {} batches are",
    ),
}


@pytest.mark.parametrize("kind", STREAMS)
def test_what_is_read_again_says_how_far_it_is(
    kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stream_fn, text = STREAMS[kind]
    first = StreamWrapper(stream_fn, name="s", epoch_size=30)
    batches = iter(first)
    for _ in range(12):
        next(batches)
    second = StreamWrapper(stream_fn, name="s", epoch_size=30)
    second.load_state_dict(first.state_dict())
    times = iter(range(100))  # one second for each batch
    monkeypatch.setattr(reading_again, "monotonic", lambda: float(next(times)))
    with caplog.at_level(logging.INFO):
        following = next(iter(second))
    assert torch.as_tensor(following["x"]).tolist() == [12]
    total = "" if "unknown" in kind else " of 12"
    name = text.partition(":")[0]
    assert [record.getMessage() for record in caplog.records] == [
        f"{text.format(12)} read again to go on after them",
        f"{name}: 5{total} batches are read again",
        f"{name}: 10{total} batches are read again",
    ]


def test_nothing_is_told_of_batches_that_are_read_again_quickly(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reading_again, "monotonic", lambda: 17.0)
    with caplog.at_level(logging.INFO):
        again = ReadingAgain("stream 's'", 1000)
        for _ in range(1000):
            again.count()
    assert [record.getMessage() for record in caplog.records] == [
        "stream 's': its first 1000 batches are read again to go on after them"
    ]


# ------------------------------------------------------------------------------------------------- how they are counted


@pytest.mark.parametrize("buffer", [0, 2])
@pytest.mark.parametrize("kind", ["generator", "list", "loaders", "iterable of known length"])
def test_batches_are_counted_from_the_beginning_of_the_pass(kind: str, buffer: int) -> None:
    makers: dict[str, Any] = {
        "generator": numbers,
        "list": lambda: list(numbers()),
        "loaders": lambda: TaskStream([TaskLoader(list(numbers()), name="i", batch_size=1)], Mixed()),
        "iterable of known length": STREAMS["iterable of known length"][0],
    }

    def refuse(batch: Batch) -> Batch:
        if batch.number == 7:
            raise DataError("no")
        return batch

    def wrap(prepare: Any = None) -> StreamWrapper:
        return StreamWrapper(makers[kind], buffer, name="s", prepare=prepare, deterministic=True)

    first = wrap()
    batches = iter(first)
    assert [next(batches).number for _ in range(5)] == list(range(5))
    state = first.state_dict()
    first.close()
    second = wrap(refuse)
    second.load_state_dict(state)
    batches = iter(second)
    assert [next(batches).number for _ in range(2)] == [5, 6]
    with pytest.raises(DataError, match=r"^stream 's', batch 7"):
        next(batches)
    second.close()


def test_a_step_that_has_become_shorter_is_an_error() -> None:
    stream = TaskStream([TaskLoader(Counted(4), batch_size=2)], Mixed())
    with pytest.raises(DataError, match="a step has 1 batches, but 3 were read of it before"):
        list(stream.iterate(0, 0, 3))
