"""Random augmentation: what a row draws depends on seed, loader, pass and row, and on nothing else."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Dataset, Subset

from emloop_mtl.data import ColumnDataset, TaskLoader
from emloop_mtl.errors import DataError
from emloop_mtl.utils.random import host_state, same_host_state

SIZE = 11


class Augmented(Dataset[Any]):
    """Rows some of which draw from all global generators."""

    name = "augmented"

    def __init__(self, drawing: Collection[int] = range(SIZE)) -> None:
        self.drawing = drawing
        self.read: list[int] = []

    def __len__(self) -> int:
        return SIZE

    def __getitem__(self, index: int) -> Any:
        self.read.append(index)
        numbers = [0.0, 0.0]
        if index in self.drawing:
            # How much is drawn differs from row to row, and a normal number of numpy's leaves a second one behind.
            more = [random.random() for _ in range(index % 3)]
            numbers = [sum(more) + np.random.normal(), torch.rand(()).item() + random.random()]
        return {"id": index, "drawn": torch.tensor(numbers)}


def drawn(loader: TaskLoader, pass_number: Any = 0, start: int = 0) -> dict[int, list[float]]:
    """Return what each row drew."""
    return {
        row: values
        for batch in loader.batches(pass_number, start)
        for row, values in zip(batch["id"].tolist(), batch["drawn"].tolist(), strict=True)
    }


EVERYTHING = drawn(TaskLoader(Augmented(), batch_size=4, seed=3))


@given(st.integers(1, SIZE), st.booleans(), st.integers(0, 3), st.sets(st.integers(0, SIZE - 1)), st.integers(0, 5))
def test_a_row_draws_the_same_in_whatever_batch(
    batch_size: int, shuffle: bool, start: int, drawing: set[int], disturbance: int
) -> None:
    random.seed(disturbance)
    np.random.seed(disturbance)
    torch.manual_seed(disturbance)
    loader = TaskLoader(Augmented(drawing), batch_size=batch_size, shuffle=shuffle, seed=3)
    before = host_state()
    for begin in (start, 0):  # the second time the loader knows something of the dataset
        rows = drawn(loader, 0, begin)
        assert rows == {row: EVERYTHING[row] if row in drawing else [0.0, 0.0] for row in rows}
    assert len(rows) == SIZE
    assert same_host_state(before, host_state())


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("drawing", [range(SIZE), [SIZE - 1]], ids=["all", "last"])
def test_a_row_draws_the_same_in_whatever_process(workers: int, drawing: Collection[int]) -> None:
    loader = TaskLoader(Augmented(drawing), batch_size=2, seed=3, num_workers=workers)
    expected = {row: EVERYTHING[row] if row in drawing else [0.0, 0.0] for row in range(SIZE)}
    assert drawn(loader) == expected
    some = drawn(loader, 0, 2)
    assert len(some) == SIZE - 4
    assert some == {row: expected[row] for row in some}


def test_rows_passes_rounds_loaders_and_seeds_differ() -> None:
    def make(**options: Any) -> TaskLoader:
        return TaskLoader(Augmented(), **{"batch_size": 3, "seed": 3, **options})

    all_of_them = [
        drawn(make()),
        drawn(make(), 1),
        drawn(make(), (0, 1)),
        drawn(make(name="other")),
        drawn(make(split="valid")),
        drawn(make(seed=4)),
    ]
    assert all_of_them[0] == EVERYTHING
    values = [tuple(each) for rows in all_of_them for each in rows.values()]
    assert len(set(values)) == len(values) == 6 * SIZE


def test_a_subset_draws_like_the_rows_that_it_has() -> None:
    loader = TaskLoader(Subset(Augmented(), range(SIZE)), name="augmented", batch_size=4, seed=3)
    assert drawn(loader) == EVERYTHING


@pytest.mark.parametrize(
    ("drawing", "twice"),
    [
        (range(SIZE), []),
        ([0], []),
        ([], []),
        ([5], [4, 5, 6, 7]),  # the first batch has drawn nothing, so the second one is read without seeds, and again
    ],
    ids=["all", "first", "none", "later"],
)
def test_a_row_is_read_once_but_where_the_first_draw_comes_late(drawing: Collection[int], twice: list[int]) -> None:
    dataset = Augmented(drawing)
    loader = TaskLoader(dataset, batch_size=4, shuffle=False)
    drawn(loader)
    assert sorted(dataset.read) == sorted([*range(SIZE), *twice])
    dataset.read.clear()
    drawn(loader, 1)
    assert dataset.read == list(range(SIZE))


@pytest.mark.parametrize("known", [True, False])
def test_what_draws_nothing_is_seeded_for_its_first_batch_at_most(known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seeded: list[int] = []
    seed = random.seed

    def count(number: int) -> None:
        seeded.append(number)
        seed(number)

    monkeypatch.setattr(random, "seed", count)
    dataset = Augmented([])
    loader = TaskLoader(dataset, batch_size=4, deterministic=True if known else None)
    drawn(loader)
    drawn(loader, 1)
    # The rows of the first batch, and what makes a batch of them.
    assert len(seeded) == (0 if known else 5)


def test_a_subset_of_what_declares_itself_deterministic_is_so_too() -> None:
    dataset = Augmented([])
    dataset.deterministic = True  # type: ignore[attr-defined]
    assert TaskLoader(Subset(dataset, [1, 2]), batch_size=1).deterministic


def noisy(rows: list[Any]) -> dict[str, Any]:
    return {"x": torch.tensor([row["id"] + random.random() for row in rows])}


class Whole(ColumnDataset):
    """Draws for a batch as a whole."""

    def __getitems__(self, indices: Any) -> dict[str, Any]:
        batch = super().__getitems__(indices)
        return batch | {"x": batch["x"] + random.random()}


@pytest.mark.parametrize(
    "make",
    [
        lambda **options: TaskLoader(Augmented([]), collate=noisy, **options),
        lambda **options: TaskLoader(Whole("w", {"x": torch.arange(SIZE)}), **options),
    ],
    ids=["collate", "whole batches"],
)
def test_what_is_drawn_for_a_batch_depends_on_its_number(make: Callable[..., TaskLoader]) -> None:
    def values(start: int = 0, pass_number: int = 0, **options: Any) -> list[list[float]]:
        loader = make(batch_size=4, seed=3, **options)
        return [batch["x"].tolist() for batch in loader.batches(pass_number, start)]

    state = host_state()
    whole = values()
    assert values(1) == whole[1:]
    assert values(num_workers=2) == whole
    assert values(pass_number=1) != whole
    assert same_host_state(state, host_state())


def test_an_error_of_a_row_leaves_the_generators_of_others_alone() -> None:
    class Failing(Augmented):
        def __getitem__(self, index: int) -> Any:
            if super().__getitem__(index) and index == 5:
                raise DataError("row 5 is broken")
            return {"id": index}

    state = host_state()
    nothing: list[int] = []
    for drawing in (range(SIZE), nothing):
        batches = TaskLoader(Failing(drawing), batch_size=4, shuffle=False).batches()
        next(batches)
        with pytest.raises(DataError, match="row 5 is broken"):
            next(batches)
        assert same_host_state(state, host_state())


def test_an_interrupt_in_a_row_leaves_the_generators_of_others_alone() -> None:
    class Interrupted(Augmented):
        def __getitem__(self, index: int) -> Any:
            row = super().__getitem__(index)
            os.kill(os.getpid(), signal.SIGINT)
            return row

    state = host_state()
    with pytest.raises(KeyboardInterrupt):
        next(iter(TaskLoader(Interrupted(), batch_size=4)))
    assert same_host_state(state, host_state())
