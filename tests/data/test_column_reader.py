"""Reading several batches of columns at once."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import Subset

from emloop_mtl.data import Batch, ColumnDataset, TaskLoader
from emloop_mtl.data.column_reader import BATCHES_AT_ONCE, BYTES_AT_ONCE
from emloop_mtl.data.tensor_column import ALIGNMENT
from emloop_mtl.errors import ConfigError


class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operators that are called inside."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def columns(size: int, width: int = 16) -> ColumnDataset:
    values = torch.arange(size * width, dtype=torch.float32).view(size, width)
    return ColumnDataset("d", {"x": values}, {"y": torch.arange(size)})


def batches(dataset: Any, start: int = 0, **options: Any) -> list[Batch]:
    return list(TaskLoader(dataset, {"t": "y"}, **{"batch_size": 4, "seed": 3} | options).batches(1, start))


def plain(batch: dict[str, Any]) -> list[Any]:
    return [(source, value if isinstance(value, list) else value.tolist()) for source, value in batch.items()]


@given(
    size=st.integers(0, 150),
    batch_size=st.integers(1, 20),
    width=st.sampled_from([1, 3, 16]),
    kinds=st.sets(st.sampled_from(["list", "ragged", "double", "mapped"])),
    uid=st.sampled_from([None, "x", "list", "_uids_"]),
    drop_last=st.booleans(),
    start=st.integers(0, 150),
)
def test_batches_are_those_that_are_read_one_by_one(
    size: int, batch_size: int, width: int, kinds: set[str], uid: str | None, drop_last: bool, start: int
) -> None:
    features: dict[str, Any] = {"x": torch.arange(size * width).float().view(size, width)}
    makers: dict[str, Any] = {
        "list": lambda: [f"row {row}" for row in range(size)],
        "ragged": lambda: [torch.arange(row % 4) for row in range(size)],
        "double": lambda: torch.arange(2 * size, dtype=torch.float64).view(size, 2),
        "mapped": lambda: np.arange(size),
        "_uids_": lambda: torch.arange(size) + 1000,
    }
    features |= {kind: makers[kind]() for kind in sorted(kinds | ({str(uid)} & makers.keys()))}
    dataset = ColumnDataset("d", features, {"y": torch.arange(size)}, uid=uid)
    loader = TaskLoader(dataset, {"t": "y"}, batch_size=batch_size, drop_last=drop_last, seed=size)
    read = list(loader.batches(2, start))
    assert len(read) == max(0, len(loader) - start)
    for batch in read:
        rows = batch["y"]
        assert plain(batch) == plain(dataset.__getitems__(rows))
        assert list(batch) == dataset.sources
        assert (batch.size, batch.tasks, batch.data_name, batch.split) == (len(rows), {"t": "y"}, "d", "train")


def test_a_column_costs_one_copy_for_many_batches() -> None:
    loader = TaskLoader(columns(130 * 4), {"t": "y"}, batch_size=4)
    with Counter() as counter:
        assert sum(1 for _ in loader) == 130
    assert BATCHES_AT_ONCE == 64
    # 130 batches are 64, 64 and 2; x and y are copied, and split as the row numbers are, each time.
    assert counter.calls.count("index_select") == 2 * 3
    assert counter.calls.count("unsafe_split") == 3 * 3


@pytest.mark.parametrize(("labels", "at_once"), [(2, 64), (15, 24), (31, 16), (100, 16)])
def test_of_many_columns_fewer_batches_are_copied_at_once(labels: int, at_once: int) -> None:
    # 384 values at once, and 16 batches at least; the features are a column too.
    dataset = ColumnDataset("d", {"x": torch.zeros(400, 16)}, {f"y{n}": torch.arange(400) for n in range(labels)})
    loader = TaskLoader(dataset, {"t": "y0"}, batch_size=4)
    found = next(iter(loader))["y0"].untyped_storage().nbytes()
    assert found == at_once * 4 * 8


def test_what_is_copied_at_once_is_bounded() -> None:
    wide = 4096  # floats in a row, so 64 KiB in a batch, and y adds a little to the 1 MiB of 16 such batches
    sizes = {batch["x"].untyped_storage().nbytes() for batch in batches(columns(200, wide))[:30]}
    assert sizes == {15 * 4 * wide * 4}
    assert max(sizes) <= BYTES_AT_ONCE
    huge = batches(columns(12, 2**17))  # a batch of 2 MiB
    assert {batch["x"].untyped_storage().nbytes() for batch in huge} == {2 * BYTES_AT_ONCE}


@pytest.mark.parametrize("width", [1, 3, 16])
def test_floats_begin_where_tensors_of_their_own_would(width: int) -> None:
    for batch in batches(columns(40, width)):
        assert batch["x"].data_ptr() % ALIGNMENT == 0


def test_a_change_of_one_batch_is_none_of_another_or_of_the_columns() -> None:
    dataset = columns(12)
    first, second, third = batches(dataset, shuffle=False)
    weight = torch.ones(16, 1, requires_grad=True)
    product = first["x"] @ weight
    second["x"].fill_(-1)
    second["y"].fill_(-1)
    second["_uids_"].fill_(-1)
    product.sum().backward()  # torch would refuse if it took the change for one of the first batch
    assert weight.grad is not None
    assert torch.equal(weight.grad[:, 0], dataset.__getitems__([0, 1, 2, 3])["x"].sum(0))
    assert [batch["y"].tolist() for batch in (first, third)] == [[0, 1, 2, 3], [8, 9, 10, 11]]
    assert [batch["_uids_"].tolist() for batch in (first, third)] == [[0, 1, 2, 3], [8, 9, 10, 11]]
    assert plain(batches(dataset, shuffle=False)[1])[1:] == [("y", [4, 5, 6, 7]), ("_uids_", [4, 5, 6, 7])]


@pytest.mark.parametrize("part", [slice(None), slice(2, None)])
def test_memory_mapped_arrays_are_read_batch_by_batch(tmp_path: Path, part: slice) -> None:
    np.save(tmp_path / "x.npy", np.arange(40 * 16, dtype=np.float32).reshape(40, 16))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")[part]
    read = batches(ColumnDataset("d", {"x": mapped, "z": np.array(mapped)}, {"y": torch.arange(len(mapped))}))
    assert {batch["x"].untyped_storage().nbytes() for batch in read} <= {4 * 16 * 4, 2 * 16 * 4}
    assert all(torch.equal(batch["x"], batch["z"]) for batch in read)
    assert read[0]["z"].untyped_storage().nbytes() == mapped.nbytes


def test_a_dataset_with_a_way_of_its_own_is_asked_for_every_batch() -> None:
    asked = []

    class Doubled(ColumnDataset):
        def __getitems__(self, indices: Any) -> dict[str, Any]:
            asked.append(len(indices))
            batch = super().__getitems__(indices)
            batch["x"] *= 2
            return batch

    read = batches(Doubled("d", {"x": torch.ones(10, 16)}, {"y": torch.arange(10)}))
    assert asked == [4, 4, 2]
    assert {value for batch in read for value in batch["x"].flatten().tolist()} == {2.0}


@pytest.mark.parametrize(
    "indices", [[7, 3, 11, 0, 1, 2], range(2, 12, 2), np.array([4, 5, 5, 6]), torch.tensor([9, 8])]
)
def test_a_subset_is_read_from_the_columns_too(indices: Any) -> None:
    part = Subset(Subset(columns(24), range(1, 24, 2)), indices)  # rows 1, 3, 5, ... of which some
    loader = TaskLoader(part, {"t": "y"}, split="valid", batch_size=4)
    expected = [2 * int(index) + 1 for index in indices]
    shuffled = TaskLoader(part, {"t": "y"}, batch_size=4, seed=2)
    apart = TaskLoader(part, {"t": "y"}, batch_size=4, seed=2, deterministic=False)
    assert list(map(plain, shuffled)) == list(map(plain, apart))
    batches = list(loader)
    assert [row for batch in batches for row in batch["y"].tolist()] == expected
    assert [row for batch in batches for row in batch["_uids_"].tolist()] == expected
    assert all(batch.origin is not None for batch in batches)
    assert loader.deterministic
    assert loader.sources == ["x", "y", "_uids_"]
    with pytest.raises(ConfigError, match="the data has no label 'z' for task 't'"):
        TaskLoader(part, {"t": "z"}, batch_size=4)


def test_columns_may_change_in_a_pass() -> None:
    dataset = columns(4 * (BATCHES_AT_ONCE + 2))
    found = []
    for number, batch in enumerate(TaskLoader(dataset, {"t": "y"}, batch_size=4)):
        if number == 0:
            dataset.add_features({"z": torch.zeros(len(dataset))})
        found.append("z" in batch)
    assert found == [False] * BATCHES_AT_ONCE + [True] * 2


def test_a_copy_of_a_batch_leaves_the_columns_behind() -> None:
    batch = next(iter(TaskLoader(columns(4 * BATCHES_AT_ONCE), {"t": "y"}, batch_size=4)))
    assert batch.origin is not None
    assert batch.origin[0].find("y") is not None
    twin = copy.deepcopy(batch)
    assert plain(twin) == plain(batch)
    assert twin.tasks == {"t": "y"}
    assert twin.origin is not None
    assert twin.origin[0].find("y") is None
