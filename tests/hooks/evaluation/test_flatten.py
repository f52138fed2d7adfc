"""Flatten: batch variables in one dimension, for the hooks after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from emloop_mtl.data.multi_task_dataset import MultiTaskDataset
from emloop_mtl.errors import ConfigError, DataError
from emloop_mtl.hooks import ComputeStats, Evaluate, Flatten
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.testing import FakeDataset, RecordEvents, run_hook


def flat(value: Any) -> Any:
    record = run_hook(Flatten({"y": "flat_y"}), outputs={"y": value}, dataset=FakeDataset(train=[{"x": [1]}]))
    return next(event["batch_data"]["flat_y"] for name, event in record.events if name == "after_batch")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (5, [5]),
        ("word", ["word"]),
        ([], []),
        ([1, [2, (3.0, "four")], []], [1, 2, 3.0, "four"]),
        ([[1, np.array([2, 3])]], [1, 2, 3]),
    ],
)
def test_what_is_nested_becomes_one_list(value: Any, expected: list[Any]) -> None:
    found = flat(value)
    assert (type(found), found) == (list, expected)


def test_tensors_and_arrays_stay_what_they_are() -> None:
    found = flat(torch.arange(6).view(1, 2, 3))
    assert torch.equal(found, torch.arange(6))
    found = flat([torch.tensor([1, 2]), torch.tensor([[3], [4]])])
    assert torch.equal(found, torch.tensor([1, 2, 3, 4]))
    assert flat(np.ones((2, 1, 2), dtype=np.float16)).dtype == np.float16
    assert flat([np.array([1]), np.array([[2, 3]])]).tolist() == [1, 2, 3]


def test_a_hook_after_it_reads_the_new_variable_and_one_before_it_is_told(
    make_model: Callable[..., MultiTaskModel], make_dataset: Callable[..., MultiTaskDataset]
) -> None:
    batches = [{"x": [[1, 2], [3, 6]]}]
    record = run_hook(Flatten({"x": "flat"}), ComputeStats(["flat"]), dataset=FakeDataset(train=batches))
    assert record.epochs[1]["train"]["flat"] == {"mean": 3.0}
    with pytest.raises(ConfigError, match="which Flatten provides only later"):
        run_hook(ComputeStats(["flat"]), Flatten({"image": "flat"}), model=make_model(), dataset=make_dataset())


def test_only_the_listed_streams_get_it_and_only_for_them_it_is_computed(
    make_model: Callable[..., MultiTaskModel], make_dataset: Callable[..., MultiTaskDataset]
) -> None:
    hook = Flatten({"digit/prob": "digit/flat"}, streams=["valid"])
    record = run_hook(Evaluate(["valid"]), hook, model=make_model(), dataset=make_dataset())
    held: dict[tuple[bool, str], set[bool]] = {}
    trains = False
    for name, event in record.events:
        if name == "before_epoch":
            trains = bool(event["train_streams"])
        elif name == "after_batch":
            batch = event["batch_data"]
            held.setdefault((trains, event["stream_name"]), set()).add("digit/flat" in batch)
            assert "digit/flat" not in batch or batch["digit/flat"].shape == (4 * 3,)
            assert not trains or event["stream_name"] == "valid" or "digit/prob" not in batch
    assert held == {
        (False, "train"): {False},
        (False, "valid"): {True},
        (True, "train"): {False},
        (True, "valid"): {True},
    }


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"variables": {}}, "variables must map names to new names"),
        ({"variables": ["x"]}, "variables must map names to new names, such as {xs: xs_flat}, not ['x']"),
        ({"variables": {"x": 3}}, "the new name of 'x' must be text, not 3"),
        ({"variables": {"x": "x"}}, "'x' names another variable, too"),
        ({"variables": {"x": "z", "y": "z"}}, "'z' names another variable, too"),
        ({"variables": {"x": "loss"}}, "the model has an output 'loss' already"),
        ({"variables": {"x": "z"}, "streams": ["vlaid"]}, "no stream 'vlaid'"),
        ({"variables": {"q": "z"}}, "Flatten requires the variable 'q'"),
    ],
    ids=["empty", "list", "number", "itself", "twice", "output", "stream", "unknown"],
)
def test_mistakes_are_told_before_the_first_batch(
    arguments: dict[str, Any],
    says: str,
    make_model: Callable[..., MultiTaskModel],
    make_dataset: Callable[..., MultiTaskDataset],
) -> None:
    with pytest.raises(ConfigError) as caught:
        run_hook(Flatten(**arguments), RecordEvents(requires=()), model=make_model(), dataset=make_dataset())
    assert says in str(caught.value)


def test_a_name_that_a_batch_holds_already_is_an_error() -> None:
    batches = [{"x": [1], "z": [2]}]
    with pytest.raises(DataError, match=r"Flatten: a batch of stream 'train' holds 'z' already; choose another name"):
        run_hook(Flatten({"x": "z"}), dataset=FakeDataset(train=batches), on_unused_sources="ignore")
