"""Loaders: order, going on, draws, workers."""

import gc
import os
import random
import signal
import tempfile
from collections.abc import Iterator
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from emloop_mtl.data import Batch, ColumnDataset, TaskLoader
from emloop_mtl.data.worker_batches import LONGEST_FOLDER
from emloop_mtl.errors import ConfigError, DataError


class Rows(Dataset[Any]):
    """Counts what is read and draws from every global generator."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.read: list[int] = []

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Any:
        self.read.append(index)
        draws = torch.tensor([random.random(), np.random.rand(), float(torch.rand(()))])
        return {"x": index, "draws": draws}, {"y": -index}


class Stream(IterableDataset[Any]):
    def __init__(self, size: int, length: int | None = None) -> None:
        self.size = size
        self.length = length

    def __len__(self) -> int:
        if self.length is None:
            raise TypeError
        return self.length

    def __iter__(self) -> Iterator[Any]:
        for i in range(self.size):
            yield {"x": i, "draw": random.random()}


def columns(size: int, name: str = "d") -> ColumnDataset:
    return ColumnDataset(
        name, {"x": torch.arange(size), "r": [torch.arange(i % 3) for i in range(size)]}, {"y": [0] * size}
    )


def plain(batches: Iterator[Batch]) -> list[Any]:
    return [
        ({k: v.tolist() if isinstance(v, torch.Tensor) else v for k, v in batch.items()}, batch.size)
        for batch in batches
    ]


def global_state() -> list[Any]:
    return [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]  # type: ignore[index]


def test_a_batch_knows_where_it_comes_from() -> None:
    loader = TaskLoader(columns(5), {"t": "y", "u": None}, "valid", batch_size=2)
    batches = list(loader)
    assert [batch["x"].tolist() for batch in batches] == [[0, 1], [2, 3], [4]]
    assert [batch.size for batch in batches] == [2, 2, 1]
    last = batches[-1]
    assert (last.tasks, last.data_name, last.split, last.ends_step) == ({"t": "y", "u": None}, "d", "valid", True)
    assert last["_uids_"].tolist() == [4]


@given(
    st.integers(0, 20), st.integers(1, 6), st.booleans(), st.sampled_from(["columns", "rows", "iterable"]), st.data()
)
def test_a_round_can_be_entered_anywhere(
    size: int, batch_size: int, drop: bool, kind: str, data: st.DataObject
) -> None:
    makers: dict[str, Any] = {"columns": columns, "rows": Rows, "iterable": Stream}
    dataset = makers[kind](size)
    loader = TaskLoader(dataset, batch_size=batch_size, drop_last=drop, seed=3)
    whole = plain(loader.batches(2))
    expected = size // batch_size if drop else -(-size // batch_size)
    assert len(whole) == expected
    if kind != "iterable":
        assert loader.num_batches == len(loader) == expected
        assert loader.num_samples == sum(size for _, size in whole)
        rows = [x for sources, _ in whole for x in sources["x"]]
        assert len(set(rows)) == len(rows)
        some = data.draw(st.integers(0, 3 * expected))
        sizes = [whole[i % expected][1] for i in range(some)]
        assert loader.samples_in(some) == sum(sizes)
    start = data.draw(st.integers(0, expected + 1))
    assert plain(loader.batches(2, start)) == whole[start:]


def test_nothing_is_read_before_the_start_nor_before_the_first_batch() -> None:
    dataset = Rows(10)
    batches = TaskLoader(dataset, batch_size=3, shuffle=False).batches(0, 2)
    assert dataset.read == []
    next(batches)
    assert dataset.read == [6, 7, 8]


def test_order_depends_on_seed_name_split_and_pass_alone() -> None:
    def order(pass_number: Any = 0, name: str = "d", split: str = "train", seed: int = 1, **options: Any) -> list[int]:
        loader = TaskLoader(columns(30, name), split=split, batch_size=7, shuffle=True, seed=seed, **options)
        return [x for batch in loader.batches(pass_number) for x in batch["x"].tolist()]

    before = global_state()
    reference = order()
    random.random()
    torch.rand(1)
    assert order() == reference
    others = [order(1), order((0, 1)), order(name="e"), order(split="valid"), order(seed=2)]
    assert len({tuple(other) for other in [*others, reference]}) == 6
    assert all(sorted(other) == list(range(30)) for other in others)
    assert before != global_state()  # by the two draws above only
    state = global_state()
    order()
    assert global_state() == state


def test_only_the_split_train_is_shuffled_by_default() -> None:
    assert TaskLoader(columns(3), batch_size=1).shuffle
    assert not TaskLoader(columns(3), split="valid", batch_size=1).shuffle
    assert not TaskLoader(Stream(3), batch_size=1).shuffle


@pytest.mark.parametrize("make", [Rows, Stream])
def test_what_a_dataset_draws_is_its_own(make: Any) -> None:
    loader = TaskLoader(make(6), batch_size=2)
    calm = plain(loader.batches(1))
    state = global_state()
    disturbed = []
    for batch in loader.batches(1):
        random.random()
        np.random.rand()
        torch.rand(1)
        disturbed.append(batch)
    assert plain(iter(disturbed)) == calm
    assert plain(loader.batches(2)) != calm
    assert state != global_state()
    state = global_state()
    plain(loader.batches(1))
    assert global_state() == state


@pytest.mark.parametrize("make", [columns, Rows, Stream])
def test_a_worker_reads_the_same_batches(make: Any) -> None:
    here = TaskLoader(make(7), batch_size=3, seed=5)
    there = TaskLoader(make(7), batch_size=3, seed=5, num_workers=1)
    state = global_state()
    assert plain(there.batches(4, 1)) == plain(here.batches(4, 1))
    assert global_state() == state


def test_two_workers_read_the_same_rows_too() -> None:
    here, there = (TaskLoader(Rows(9), batch_size=2, num_workers=count) for count in (0, 2))
    assert plain(there.batches(0)) == plain(here.batches(0))


def test_a_folder_whose_path_is_too_long_for_processes_to_hand_over_batches_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loader = TaskLoader(Rows(2), batch_size=2, num_workers=1)
    with tempfile.TemporaryDirectory() as short:
        folder = Path(short, "x" * (LONGEST_FOLDER - len(short) - 1))
        folder.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        assert len(list(loader)) == 1
        monkeypatch.setattr(tempfile, "tempdir", f"{folder}x")
        with pytest.raises(DataError, match=r"at most 75 bytes, not '.*'; set the environment variable TMPDIR, or num"):
            list(loader)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_errors_of_samples_name_the_loader_in_one_line(num_workers: int) -> None:
    class Uneven(Dataset[Any]):
        name = "uneven"

        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> Any:
            return {"x": torch.ones(1 + index // 3)}

    loader = TaskLoader(Uneven(), split="valid", batch_size=2, num_workers=num_workers)
    batches = loader.batches(0)
    next(batches)
    with pytest.raises(DataError, match=r"^loader 'uneven': source 'x'.*'ragged' setting[^\n]*$"):
        next(batches)


def test_samples_that_are_batches_already() -> None:
    class Batches(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            yield {"x": torch.ones(2)}
            yield {"x": torch.ones(3)}

    loader = TaskLoader(Batches(), batch_size=None)
    assert [batch.size for batch in loader] == [2, 3]
    assert loader.num_batches is None
    assert loader.num_samples is None
    with pytest.raises(TypeError):
        len(loader)


def test_an_iterable_dataset_is_held_to_its_length() -> None:
    assert TaskLoader(Stream(5, 5), batch_size=2).num_batches == 3
    assert len(list(TaskLoader(Stream(9, 5), batch_size=2))) == 3
    loader = TaskLoader(Stream(3, 5), batch_size=2)
    with pytest.raises(
        DataError, match="loader 'Stream': the dataset ended after 2 batches, though its length makes 3"
    ):
        list(loader)


def test_collate_functions() -> None:
    def total(samples: list[Any]) -> Any:
        return {"x": torch.tensor([sum(sample["x"] for sample in samples)])}

    loader = TaskLoader(columns(5), split="v", batch_size=2, collate=total)
    assert [(batch["x"].tolist(), batch.size) for batch in loader] == [([1], 1), ([5], 1), ([4], 1)]
    with pytest.raises(DataError, match="collate returned a list"):
        list(TaskLoader(columns(5), batch_size=2, collate=lambda samples: samples))


def test_ragged_sources_of_samples() -> None:
    samples = [{"x": torch.ones(i)} for i in (1, 3)]
    [batch] = TaskLoader(samples, split="v", batch_size=2, ragged="x")
    assert batch["x_mask"].tolist() == [[False, True, True], [False, False, False]]


def test_what_is_known_of_sources() -> None:
    assert TaskLoader(columns(3), batch_size=1).sources == ["x", "r", "r_mask", "y", "_uids_"]
    assert TaskLoader(Rows(3), batch_size=1).sources is None


def test_which_loaders_a_thread_may_read() -> None:
    assert TaskLoader(columns(3), batch_size=1).deterministic
    assert not TaskLoader(Rows(3), batch_size=1).deterministic
    assert TaskLoader(Rows(3), batch_size=1, num_workers=1).deterministic
    assert TaskLoader(Rows(3), batch_size=1, deterministic=True).deterministic
    assert not TaskLoader(columns(3), batch_size=1, collate=dict).deterministic


class NoLength(Dataset[Any]):
    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("dataset", "options", "text"),
    [
        (columns(3), {"batch_size": 0}, "loader 'd': batch_size 0"),
        (columns(3), {"batch_size": None}, "batch_size may be None only"),
        (columns(3), {"n_batches": -1}, "n_batches -1"),
        (columns(3), {"num_workers": -1}, "num_workers -1 is neither a number of processes, 0 or more, nor 'auto'"),
        (
            columns(3),
            {"num_workers": "many"},
            "num_workers 'many' is neither a number of processes, 0 or more, nor 'auto'",
        ),
        (columns(3), {"num_workers": True}, "num_workers True is neither"),
        (columns(3), {"ragged": ["r"]}, "knows its ragged columns"),
        (Rows(3), {"ragged": ["r"], "collate": dict}, "ragged has no effect"),
        (columns(3), {"tasks": {"t": "z"}}, "no label 'z' for task 't'"),
        (columns(3), {"tasks": ["t"]}, "tasks is a mapping"),
        (Stream(3), {"shuffle": True}, "cannot be shuffled"),
        (Stream(3), {"batch_size": None, "drop_last": True}, "drop_last needs"),
        (NoLength(), {}, "NoLength has no __len__"),
        (iter([{}]), {}, "cannot be read in every pass"),
    ],
)
def test_what_is_refused(dataset: Any, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        TaskLoader(dataset, **{"batch_size": 2, **options})


def test_torch_datasets_of_tuples_ask_for_a_collate_function() -> None:
    dataset = TensorDataset(torch.ones(2, 1))
    with pytest.raises(DataError, match="give the loader a 'collate' function"):
        list(TaskLoader(dataset, batch_size=2))
    loader = TaskLoader(dataset, batch_size=2, collate=lambda rows: {"x": torch.stack([row[0] for row in rows])})
    assert [batch["x"].shape for batch in loader] == [(2, 1)]


class Signalled(Dataset[Any]):
    """Sends a signal to its own process, as a terminal does to all processes of a run."""

    def __init__(self, number: signal.Signals) -> None:
        self.number = number

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        if index == 0:
            os.kill(os.getpid(), self.number)
        return {"x": index}


class SignalledStream(IterableDataset[Any]):
    def __init__(self, number: signal.Signals) -> None:
        self.rows = Signalled(number)

    def __iter__(self) -> Iterator[Any]:
        return (self.rows[index] for index in range(len(self.rows)))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("kind", [Signalled, SignalledStream])
def test_workers_leave_signals_to_the_main_process(kind: Any, number: signal.Signals) -> None:
    loader = TaskLoader(kind(number), batch_size=2, num_workers=1, shuffle=False)
    assert [batch["x"].tolist() for batch in loader] == [[0, 1], [2, 3]]


class Failing(Dataset[Any]):
    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index == 6:
            raise ValueError("row 6 is broken")
        return {"x": index}


class FailingStream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return (Failing()[index] for index in range(20))


class Unequal(Dataset[Any]):
    name = "unequal"

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"x": torch.ones(1 + index // 7)}


@pytest.mark.parametrize(
    ("kind", "text"),
    [(Failing, "row 6 is broken"), (FailingStream, "row 6 is broken"), (Unequal, "loader 'unequal': source 'x'")],
)
def test_an_error_in_a_worker_ends_it(kind: Any, text: str) -> None:
    before = set(active_children())
    gc.disable()  # which would end the processes too, some time or other
    try:
        with pytest.raises(ValueError, match=text):
            list(TaskLoader(kind(), batch_size=2, num_workers=1, shuffle=False))
        assert set(active_children()) <= before
    finally:
        gc.enable()
