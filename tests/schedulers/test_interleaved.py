"""Mixed batches: which rows they hold, held against the plainest way of putting them together, row by row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Dataset, IterableDataset

from emloop_mtl.data import Batch, ColumnDataset, StreamWrapper, TaskLoader, TaskStream
from emloop_mtl.errors import CheckpointError, ConfigError, DataError
from emloop_mtl.schedulers import Interleaved

NAMES = "abcd"


class Rows(Dataset[Any]):
    """Counts how often each row is read, in all processes together."""

    def __init__(self, size: int) -> None:
        self.reads = torch.zeros(size, dtype=torch.int64)
        self.reads.share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        return len(self.reads)

    def __getitem__(self, index: int) -> dict[str, int]:
        self.reads[index] += 1
        return {"x": index}


class Samples(IterableDataset[Any]):
    """Yields the numbers of its samples, and may not tell how many they are."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __iter__(self) -> Iterator[dict[str, int]]:
        return ({"x": number} for number in range(self.size))


class Counted(Samples):
    def __len__(self) -> int:
        return self.size


def loader_of(index: int, kind: str, size: int, batch_size: int, n_batches: int | None, **options: Any) -> TaskLoader:
    name = NAMES[index]
    if kind == "columns":
        dataset: Any = ColumnDataset(name, {"x": torch.arange(size)})
    else:
        dataset = {"rows": Rows, "samples": Samples, "counted": Counted}[kind](size)
    return TaskLoader(dataset, {name: None}, name=name, batch_size=batch_size, n_batches=n_batches, **options)


def rows_of(loader: TaskLoader, pass_number: int, asked: int | None) -> Iterator[int]:
    """The rows of a loader one by one, out of its own batches; as many as are asked for, starting over."""

    def rounds() -> Iterator[int]:
        number = 0
        while True:
            for batch in loader.batches((pass_number, number) if number else pass_number):
                yield from batch["x"].tolist()
            number += 1

    if asked is None:
        return iter([row for batch in loader.batches(pass_number) for row in batch["x"].tolist()])
    return islice(rounds(), asked)


def reference(scheduler: Interleaved, loaders: list[TaskLoader], pass_number: int) -> list[dict[str, list[int]]]:
    """The rows of every loader in each batch, put together row by row."""
    total = scheduler.samples_per_pass
    if scheduler.batches_per_pass is not None:
        total = scheduler.batches_per_pass * scheduler.batch_size
    sizes = [sum(len(batch["x"]) for batch in loader.batches(0)) for loader in loaders]
    asked: list[int | None] = []
    for loader, size in zip(loaders, sizes, strict=True):
        if total is not None:
            asked.append(total)
        elif loader.n_batches:
            asked.append(loader.samples_in(loader.n_batches) if loader.num_samples is not None else None)
        else:
            asked.append(max(sizes) if scheduler.fillup else size)
    left = {loader.name: rows_of(loader, pass_number, n) for loader, n in zip(loaders, asked, strict=True)}
    drawn: list[tuple[str, int]] = []
    while left and (total is None or len(drawn) < total):
        for name in list(left):
            row = next(left[name], None)
            if row is None:
                del left[name]
            else:
                drawn.append((name, row))
    drawn = drawn if total is None else drawn[:total]
    size = scheduler.batch_size
    batches = [drawn[first : first + size] for first in range(0, len(drawn), size)]
    if scheduler.drop_last:
        batches = [batch for batch in batches if len(batch) == size]
    return [
        {name: rows for name in NAMES if (rows := [row for other, row in batch if other == name])} for batch in batches
    ]


def found(batch: Batch) -> dict[str, list[int]]:
    """The rows of every loader in a batch."""
    assert batch.mix is not None
    rows = batch["x"].tolist()
    for task in batch.tasks:
        own = batch.shares[task].host.tolist() if task in batch.shares else list(range(len(rows)))
        assert own == [row for part in batch.mix.parts if task in part.tasks for row in range(part.first, part.stop)]
    return {part.data_name: rows[part.first : part.stop] for part in batch.mix.parts}


options = st.one_of(
    st.builds(dict, fillup=st.booleans()),
    st.builds(dict, batches_per_pass=st.integers(1, 9)),
    st.builds(dict, samples_per_pass=st.integers(1, 30)),
)
kinds = st.lists(
    st.tuples(
        st.sampled_from(["columns", "rows", "samples", "counted"]),
        st.integers(1, 9),
        st.integers(1, 4),
        st.sampled_from([None, None, 1, 3]),
    ),
    min_size=1,
    max_size=4,
)


@given(options, st.integers(1, 7), st.booleans(), kinds, st.integers(0, 2), st.data())
@settings(max_examples=60)
def test_a_pass_holds_the_rows_that_are_drawn_one_by_one_and_can_be_entered_anywhere(
    given_options: dict[str, Any],
    batch_size: int,
    drop_last: bool,
    given: list[tuple[str, int, int, int | None]],
    pass_number: int,
    data: st.DataObject,
) -> None:
    scheduler = Interleaved(batch_size, drop_last=drop_last, **given_options)
    loaders = [loader_of(index, *each) for index, each in enumerate(given)]
    endless = scheduler.batches_per_pass or scheduler.samples_per_pass
    unknown = [loader.num_samples is None for loader in loaders]
    no_length = scheduler.fillup and any(n and not loader.n_batches for n, loader in zip(unknown, loaders, strict=True))
    if no_length or (endless and any(loader.n_batches for loader in loaders)):
        with pytest.raises(ConfigError, match="n_batches"):
            TaskStream(loaders, scheduler)
        return
    if any(n and loader.n_batches for n, loader in zip(unknown, loaders, strict=True)):
        return  # how many rows that is only shows in reading; there is a test of its own
    stream = TaskStream(loaders, scheduler)
    whole = list(stream.iterate(pass_number))
    expected = reference(scheduler, loaders, pass_number)
    assert [found(batch) for batch in whole] == expected
    assert all(batch.ends_step for batch in whole)
    assert scheduler.shares(loaders) == [None] * len(loaders)  # rows are taken, and no whole batches
    exact = len(expected), len(expected), sum(len(rows) for batch in expected for rows in batch.values())
    lengths = stream.num_steps, stream.num_batches, stream.num_samples
    assert lengths == ((None,) * 3 if any(unknown) and not endless else exact)
    start = data.draw(st.integers(0, len(whole)))
    assert [found(batch) for batch in stream.iterate(pass_number, start)] == expected[start:]


def test_a_loader_of_unknown_length_gives_the_rows_of_its_n_batches() -> None:
    loaders = [loader_of(0, "samples", 5, 2, 4), loader_of(1, "columns", 3, 2, None, shuffle=False)]
    for start in range(4):
        batches = [found(batch) for batch in TaskStream(loaders, Interleaved(4)).iterate(0, start)]
        # two batches of 2 and one of 1, then the first of 2 again: 0 to 4, 0, 1
        assert batches == [{"a": [0, 1], "b": [0, 1]}, {"a": [2, 3, 4], "b": [2]}, {"a": [0, 1]}][start:]


def test_orders_are_those_of_the_loaders_and_differ_with_the_pass() -> None:
    loaders = [loader_of(index, "columns", 9, 2, None) for index in range(2)]
    orders = []
    for number in range(2):
        batches = [found(batch) for batch in TaskStream(loaders, Interleaved(4)).iterate(number)]
        orders.append({name: [row for batch in batches for row in batch.get(name, [])] for name in "ab"})
        assert orders[-1] == {loader.name: list(rows_of(loader, number, None)) for loader in loaders}
    assert orders[0] != orders[1]


@pytest.mark.parametrize("buffer", [0, 2])
@pytest.mark.parametrize("workers", [0, 2])
def test_rows_that_were_consumed_are_not_read_again(workers: int, buffer: int) -> None:
    def make(num_workers: int) -> tuple[list[TaskLoader], StreamWrapper]:
        loaders = [
            loader_of(index, "rows", size, 2, None, num_workers=num_workers, deterministic=True)
            for index, size in enumerate((7, 5))
        ]
        stream = TaskStream(loaders, Interleaved(3))
        return loaders, StreamWrapper(lambda: stream, buffer, epoch_size=2, name="s")

    _, first = make(0)
    had = [found(batch) for batch in first]
    state = first.state_dict()
    rest = [found(batch) for batch in first]
    first.close()
    loaders, second = make(workers)
    second.load_state_dict(state)
    assert [found(batch) for batch in second] == rest
    second.close()
    for loader in loaders:
        read = {row for batch in had for row in batch.get(loader.name, [])}
        assert loader.dataset.reads[list(read)].sum() == 0
        if not (workers or buffer):  # which read ahead
            expected = torch.zeros(len(loader.dataset), dtype=torch.int64)
            expected[[row for batch in rest for row in batch.get(loader.name, [])]] = 1
            assert loader.dataset.reads.tolist() == expected.tolist()


def test_a_batch_is_read_in_one_operation_per_column_of_each_loader() -> None:
    class Columns(ColumnDataset):
        calls = 0

        def __getitems__(self, indices: Any) -> dict[str, Any]:
            type(self).calls += 1
            return super().__getitems__(indices)

    loaders = [
        TaskLoader(Columns(name, {"x": torch.arange(8)}), {name: None}, name=name, batch_size=1) for name in "ab"
    ]
    assert len(list(TaskStream(loaders, Interleaved(8)))) == 2
    assert Columns.calls == 4


def test_what_rows_draw_depends_on_the_row_alone() -> None:
    class Noisy(Rows):
        def __getitem__(self, index: int) -> Any:
            return {"x": index, "noise": torch.rand(())}

    loaders = [TaskLoader(Noisy(6), {name: None}, name=name, batch_size=2) for name in "ab"]

    def noise(batches: Any) -> dict[tuple[str, int], float]:
        pairs = {}
        for batch in batches:
            parts = batch.mix.parts if batch.mix else [(batch.data_name, 0, len(batch["x"]))]
            for name, first, stop, *_ in parts:
                rows = range(first, stop)
                pairs.update({(name, int(batch["x"][row])): float(batch["noise"][row]) for row in rows})
        return pairs

    assert noise(TaskStream(loaders, Interleaved(5)).iterate(1)) == noise(TaskStream(loaders).iterate(1))


# ----------------------------------------------------------------------------------------------- what a batch holds


def stream_of(columns: Mapping[str, Mapping[str, Any]], batch_size: int = 4, **options: Any) -> TaskStream:
    loaders = [
        TaskLoader(ColumnDataset(name, features), {name: None}, name=name, batch_size=2, shuffle=False)
        for name, features in columns.items()
    ]
    return TaskStream(loaders, Interleaved(batch_size, **options))


def test_rows_of_a_loader_that_lacks_a_source_are_filled_up() -> None:
    columns = {"a": {"x": torch.tensor([1.0, 2.0]), "s": ["p", "q"]}, "b": {"x": torch.tensor([3.0, 4.0])}}
    columns["b"]["y"] = torch.tensor([[5], [6]])
    [batch] = stream_of(columns)
    assert batch["x"].tolist() == [1, 2, 3, 4]
    assert batch["s"] == ["p", "q", None, None]
    assert batch["y"].tolist() == [[0], [0], [5], [6]]
    assert batch["_uids_"].tolist() == [0, 1, 0, 1]
    assert batch.mix is not None
    assert [part.data_name for part in batch.mix.lacking("y")] == ["a"]
    assert batch.data_name == "a+b"
    assert [batch.data_name_of(task) for task in "ab"] == ["a", "b"]


def test_ragged_sources_are_padded_to_the_longest_of_the_batch() -> None:
    short, long = [torch.tensor([1]), torch.tensor([2])], [torch.tensor([3, 4, 5]), torch.tensor([6])]
    [batch] = stream_of({"a": {"t": short}, "b": {"t": long}})
    assert batch["t"].tolist() == [[1, 0, 0], [2, 0, 0], [3, 4, 5], [6, 0, 0]]
    assert (~batch["t_mask"]).sum(1).tolist() == [1, 1, 3, 1]
    # one that holds none is padding all over
    [batch] = stream_of({"a": {"x": torch.zeros(1)}, "b": {"x": torch.zeros(1), "t": long[:1]}})
    assert batch["t"].tolist() == [[0, 0, 0], [3, 4, 5]]
    assert batch["t_mask"].tolist() == [[True] * 3, [False] * 3]


def test_ragged_batches_that_are_cut_are_as_long_as_their_rows() -> None:
    samples = [{"t": torch.arange(length)} for length in (1, 2, 5, 1)]

    class Some(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            return iter(samples)

    stream = TaskStream([TaskLoader(Some(), {"a": None}, batch_size=4, ragged="t")], Interleaved(2))
    assert [batch["t"].shape[1] for batch in stream] == [2, 5]
    stream = TaskStream([TaskLoader(Some(), {"a": None}, batch_size=4, ragged="t", min_data_len=3)], Interleaved(2))
    assert [batch["t"].shape[1] for batch in stream] == [3, 5]


def test_what_a_dataset_pads_itself_stays_as_wide_when_it_is_cut() -> None:
    class Whole(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            yield {"t": torch.zeros(4, 8), "t_mask": torch.arange(8).expand(4, 8) > 1}

    stream = TaskStream([TaskLoader(Whole(), {"a": None}, batch_size=None)], Interleaved(2))
    assert [batch["t"].shape[1] for batch in stream] == [8, 8]


def test_of_many_loaders_the_data_is_called_by_a_few() -> None:
    names = {4: "a+b+c+d", 5: "a+b+c+2 more", 7: "a+b+c+4 more"}
    for count, name in names.items():
        [batch] = stream_of({letter: {"x": torch.zeros(1)} for letter in "abcdefg"[:count]}, batch_size=9)
        assert batch.data_name == name


def test_task_source_tells_the_task_of_each_row() -> None:
    columns = {"a": {"x": torch.zeros(3)}, "b": {"x": torch.zeros(1)}}
    stream = stream_of(columns, task_source="task")
    assert [batch["task"] for batch in stream] == [["a", "a", "a", "b"]]
    assert stream.sources == {"x", "_uids_", "task"}


@pytest.mark.parametrize(
    ("a", "b", "text"),
    [
        (torch.zeros(2), torch.zeros(2, dtype=torch.int64), "dtype torch.float32 in loader 'a' and torch.int64 in lo"),
        (torch.zeros(2, 3), torch.zeros(2, 4), r"shape \[3\] in loader 'a' and \[4\] in loader 'b'"),
        (torch.zeros(2), ["p", "q"], "a Tensor in loader 'a' and a list in loader 'b'"),
        (torch.zeros(2, 1), [torch.zeros(1), torch.zeros(2)], "differs in length in loader 'b', and has no mask in lo"),
    ],
    ids=["dtype", "shape", "kind", "ragged"],
)
def test_values_that_do_not_go_together_are_told_with_source_and_loaders(a: Any, b: Any, text: str) -> None:
    match = f"source 'x' (is |has |){text}"
    with pytest.raises(ConfigError, match=match):  # before a row is read
        stream_of({"a": {"x": a}, "b": {"x": b}})
    data = {name: ColumnDataset(name, {"x": values}) for name, values in {"a": a, "b": b}.items()}
    loaders = [
        TaskLoader(each, {name: None}, batch_size=2, collate=lambda rows, each=each: each.__getitems__([0, 1]))
        for name, each in data.items()
    ]
    stream = TaskStream(loaders, Interleaved(4))
    with pytest.raises(DataError, match=match):
        list(stream)


def test_identifiers_of_several_kinds_go_together() -> None:
    loaders = [
        TaskLoader(ColumnDataset("a", {"x": torch.arange(1)}), {"a": None}, batch_size=1),
        TaskLoader(ColumnDataset("b", {"x": torch.arange(1), "id": ["u"]}, uid="id"), {"b": None}, batch_size=1),
    ]
    [batch] = TaskStream(loaders, Interleaved(2))
    assert batch["_uids_"] == [0, "u"]
    loaders.append(loader_of(2, "samples", 2, 1, None))  # an iterable dataset numbers no rows
    [batch] = TaskStream(loaders, Interleaved(4))
    assert batch["_uids_"] == [0, "u", None, None]


@pytest.mark.parametrize(("scale", "kind"), [(2.0, "float"), (torch.tensor(2.0), "Tensor")], ids=["float", "tensor"])
def test_batches_without_rows_cannot_be_cut(scale: Any, kind: str) -> None:
    class Whole(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            yield {"x": torch.zeros(4), "scale": scale}

    loader = TaskLoader(Whole(), {"a": None}, name="a", batch_size=None)
    with pytest.raises(DataError, match=f"source 'scale' of loader 'a' has a {kind} for 4 rows; a mixed batch nee"):
        list(TaskStream([loader], Interleaved(3)))
    with pytest.raises(DataError, match=f"source 'scale' of loader 'a' has a {kind} for 4 rows"):
        list(TaskStream([loader], Interleaved(4)))


# ------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"batch_size": 0}, "batch_size must be a whole number, 1 or more, not 0"),
        ({"batch_size": True}, "batch_size must be a whole number, 1 or more, not True"),
        ({"batch_size": 2, "batches_per_pass": 1.5}, "batches_per_pass must be a whole number, 1 or more, not 1.5"),
        ({"batch_size": 2, "samples_per_pass": -1}, "samples_per_pass must be a whole number, 1 or more, not -1"),
        ({"batch_size": 2, "batches_per_pass": 1, "fillup": True}, "batches_per_pass and fillup both say how long"),
        ({"batch_size": 2, "batches_per_pass": 1, "samples_per_pass": 1}, "leave one out"),
        ({"batch_size": 2, "task_source": ""}, "task_source must name a source, not ''"),
    ],
)
def test_arguments_that_are_refused(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=f"^Interleaved: .*{text}"):
        Interleaved(**arguments)


def test_loaders_that_are_refused() -> None:
    full, empty = loader_of(0, "columns", 3, 1, None), loader_of(1, "columns", 0, 1, None)
    with pytest.raises(ConfigError, match="loader 'b' is empty, but 3 rows are asked of it; set fillup: false or"):
        TaskStream([full, empty], Interleaved(2, fillup=True))
    with pytest.raises(ConfigError, match="loader 'b' is empty, but rows are asked of it; leave it out"):
        TaskStream([full, empty], Interleaved(2, samples_per_pass=9))
    with pytest.raises(ConfigError, match="loader 'b' is empty, but 2 batches are asked of it; unset its n_batches"):
        TaskStream([full, loader_of(1, "columns", 0, 1, 2)], Interleaved(2))
    assert [found(batch) for batch in TaskStream([full, empty], Interleaved(4))] == reference(Interleaved(4), [full], 0)
    columns = ColumnDataset("c", {"x": torch.zeros(2)}, {"y": torch.zeros(2), "z": torch.zeros(2)})

    def loader(name: str, tasks: dict[str, str | None]) -> TaskLoader:
        return TaskLoader(columns, tasks, name=name, batch_size=1)

    with pytest.raises(ConfigError, match="task 't' has its labels in 'y' in loader 'p' and its labels in 'z' in"):
        TaskStream([loader("p", {"t": "y"}), loader("q", {"t": "z"})], Interleaved(2))
    with pytest.raises(ConfigError, match="task 't' has its labels in 'y' in loader 'p' and no labels in loader 'q'"):
        TaskStream([loader("p", {"t": "y"}), loader("q", {"t": None})], Interleaved(2))
    with pytest.raises(ConfigError, match="loader 'q' names no tasks, but loader 'p' does; in mixed batches all must"):
        TaskStream([loader("p", {"t": "y"}), loader("q", {})], Interleaved(2))
    with pytest.raises(ConfigError, match="task_source: loader 'p' names 2 tasks, so that no name tells"):
        TaskStream([loader("p", {"t": "y", "u": "z"})], Interleaved(2, task_source="task"))
    with pytest.raises(ConfigError, match="task_source: loader 'p' holds a source 'x' of its own"):
        TaskStream([loader("p", {"t": "y"})], Interleaved(2, task_source="x"))
    rows = TaskLoader([{"x": 1}] * 2, {"t": None}, name="r", batch_size=1)
    with pytest.raises(DataError, match="loader 'r' holds a source 'x' of its own; give task_source of the scheduler"):
        list(TaskStream([rows], Interleaved(2, task_source="x")))


def test_a_batch_that_lacks_the_label_source_of_a_task_names_loader_and_task() -> None:
    loaders = [TaskLoader([{"x": 1}] * 2, {"t": "y"}, name="a", batch_size=1)]
    stream = StreamWrapper(lambda: TaskStream(loaders, Interleaved(2)), name="train")
    with pytest.raises(DataError, match="stream 'train', batch 0: loader 'a', task 't': the batch lacks the label so"):
        list(stream)


def test_an_unknown_loader_without_rows_is_an_error_where_rows_are_asked_of_it() -> None:
    loaders = [loader_of(0, "columns", 2, 1, None), loader_of(1, "samples", 0, 1, None)]
    with pytest.raises(DataError, match="loader 'b' is empty, but batches are asked of it"):
        list(TaskStream(loaders, Interleaved(2, batches_per_pass=3)))
    assert len(list(TaskStream(loaders, Interleaved(2)))) == 1


def test_it_cannot_change_in_the_middle_of_a_pass() -> None:
    def wrapper(scheduler: Interleaved) -> StreamWrapper:
        loaders = [loader_of(index, "columns", 5, 2, None) for index in range(2)]
        return StreamWrapper(lambda: TaskStream(loaders, scheduler), epoch_size=1, name="s")

    first = wrapper(Interleaved(3))
    list(first)
    state = first.state_dict()
    with pytest.raises(CheckpointError, match="batch_size of its scheduler was 3 and is 4; in the middle of a pass"):
        wrapper(Interleaved(4)).load_state_dict(state)


def test_all_batches_of_a_step_were_had_before() -> None:
    stream = TaskStream([loader_of(0, "columns", 5, 2, None)], Interleaved(3))
    with pytest.raises(DataError, match="a step has 1 batches, but 1 were read of it before"):
        list(stream.iterate(0, 0, 1))


def test_a_walk_over_ten_thousand_loaders_opens_those_whose_rows_come() -> None:
    dataset = ColumnDataset("x", {"x": torch.arange(100)})
    loaders = [TaskLoader(dataset, {"t": None}, name=f"l{index}", batch_size=1) for index in range(10_000)]
    stream = TaskStream(loaders, Interleaved(8))
    batches = stream.iterate(0, 9_999 * 100 // 8)
    batch = next(batches)
    assert batch.mix is not None
    assert [part.data_name for part in batch.mix.parts] == [f"l{index}" for index in range(9896, 9904)]
