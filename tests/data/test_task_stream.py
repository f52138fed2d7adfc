"""Streams made of loaders."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emloop_mtl.data import ColumnDataset, TaskLoader, TaskStream
from emloop_mtl.errors import ConfigError
from emloop_mtl.schedulers import AbstractTaskScheduler, Mixed, RoundRobin, Sequential


def loader(name: str, size: int, batch_size: int = 2, n_batches: int | None = None) -> TaskLoader:
    dataset = ColumnDataset(name, {"x": torch.arange(size), f"of_{name}": torch.arange(size)})
    return TaskLoader(dataset, batch_size=batch_size, n_batches=n_batches)


def walk(stream: TaskStream, *position: int) -> list[tuple[str, list[int], bool]]:
    return [(batch.data_name, batch["x"].tolist(), batch.ends_step) for batch in stream.iterate(*position)]


schedulers = st.sampled_from(
    [Sequential(), Sequential(True), RoundRobin(), RoundRobin(shuffle=True), Mixed(), Mixed(True)]
)


@given(
    schedulers,
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 4), st.sampled_from([None, 1, 7])), min_size=1, max_size=3),
    st.integers(0, 2),
    st.data(),
)
def test_lengths_are_exact_and_any_batch_can_be_the_first(
    scheduler: AbstractTaskScheduler, sizes: list[tuple[int, int, int | None]], seed: int, data: st.DataObject
) -> None:
    stream = TaskStream([loader("abc"[i], *size) for i, size in enumerate(sizes)], scheduler, seed)
    whole = walk(stream, 1)
    assert stream.num_batches == len(whole)
    assert stream.num_steps == sum(ends for *_, ends in whole)
    assert stream.num_samples == sum(len(rows) for _, rows, _ in whole)
    consumed = data.draw(st.integers(0, len(whole)))
    steps = sum(ends for *_, ends in whole[:consumed])
    inside = next((i for i, (*_, ends) in enumerate(reversed(whole[:consumed])) if ends), consumed)
    assert walk(stream, 1, steps, inside) == whole[consumed:]


def test_sources() -> None:
    stream = TaskStream([loader("a", 2), loader("b", 2)])
    assert stream.sources == {"x", "of_a", "of_b", "_uids_"}
    assert TaskStream([loader("a", 2), TaskLoader([{"x": 1}], batch_size=1)]).sources is None


def test_unknown_lengths() -> None:
    class Endless(torch.utils.data.IterableDataset[dict[str, int]]):
        def __iter__(self) -> Iterator[dict[str, int]]:
            return iter([])

    stream = TaskStream([loader("a", 2), TaskLoader(Endless(), batch_size=1)])
    assert (stream.num_steps, stream.num_batches, stream.num_samples) == (None, None, None)


def test_evaluation_takes_every_batch_in_order() -> None:
    stream = TaskStream([loader("a", 3, n_batches=1), loader("b", 1)])
    assert [name for name, *_ in walk(stream)] == ["a", "a", "b"]
    assert [batch.data_name for batch in stream] == ["a", "a", "b"]


def test_what_is_refused() -> None:
    with pytest.raises(ConfigError, match="two loaders are named 'a' in split 'train'"):
        TaskStream([loader("a", 2), loader("a", 3)])
    with pytest.raises(ConfigError, match="loader 'b' is empty"):
        TaskStream([loader("a", 2), loader("b", 0)], RoundRobin(fillup=True))
