"""SequenceToCsv: a row for each entry of a sequence, without padding."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from emloop_mtl.data.column_dataset import ColumnDataset
from emloop_mtl.data.multi_task_dataset import MultiTaskDataset
from emloop_mtl.data.task_loader import TaskLoader
from emloop_mtl.errors import ConfigError, EmloopError
from emloop_mtl.hooks import SequenceToCsv
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.tasks.task import Task
from emloop_mtl.testing import FakeDataset, run_hook

BATCH = {"x": [0, 0], "id": ["a", "b"], "area": [[1, 2, 3], [4, 5, 6]], "color": [["r", "g", "b"], ["w", "k", "y"]]}


def write(folder: Path, batch: dict[str, Any], **arguments: Any) -> list[list[str]]:
    hook = SequenceToCsv(**{"variables": ["area", "color"], "id_variable": "id", "path": "s.csv", **arguments})
    run_hook(hook, dataset=FakeDataset(train=[batch]), output_dir=folder, on_unused_sources="ignore")
    with (folder / "s.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    half = (len(rows) - 1) // 2
    assert rows[1 : 1 + half] == rows[1 + half :]  # the zeroth epoch and the first
    return [rows[0], *rows[1 : 1 + half]]


@pytest.mark.parametrize("make", [list, np.array, torch.tensor], ids=["list", "array", "tensor"])
def test_a_row_for_each_entry(make: Callable[[Any], Any], tmp_path: Path) -> None:
    assert write(tmp_path, {**BATCH, "area": make(BATCH["area"])}) == [
        ["id", "index", "area", "color"],
        ["a", "0", "1", "r"],
        ["a", "1", "2", "g"],
        ["a", "2", "3", "b"],
        ["b", "0", "4", "w"],
        ["b", "1", "5", "k"],
        ["b", "2", "6", "y"],
    ]


def test_entries_that_are_lists_are_json(tmp_path: Path) -> None:
    batch = {"x": [0], "id": [7], "area": torch.tensor([[[1, 2], [3, 4]]])}
    assert write(tmp_path, batch, variables=["area"])[1:] == [["7", "0", "[1, 2]"], ["7", "1", "[3, 4]"]]


def test_sequences_of_several_lengths_need_no_mask(tmp_path: Path) -> None:
    batch = {"x": [0, 0, 0], "id": [1, 2, 3], "area": [[1, 2], [], np.array([3])]}
    assert write(tmp_path, batch, variables=["area"])[1:] == [["1", "0", "1"], ["1", "1", "2"], ["3", "0", "3"]]


@pytest.mark.parametrize("make", [list, np.array, torch.tensor, lambda rows: torch.tensor(rows).bool()])
def test_a_mask_is_true_where_entries_count(make: Callable[[Any], Any], tmp_path: Path) -> None:
    # of a hand-written stream, so area_mask has no meaning of its own
    batch = {**BATCH, "area_mask": make([[1, 0, 1], [0, 0, 1]])}
    rows = write(tmp_path, batch, pad_mask_variable="area_mask", variables=["area"])
    assert rows[1:] == [["a", "0", "1"], ["a", "2", "3"], ["b", "2", "6"]]
    assert len(write(tmp_path / "all", batch, variables=["area"])) == 1 + 6


class Words(MultiTaskDataset):
    """Sequences of different lengths with a label for each token."""

    def loaders(self) -> list[TaskLoader]:
        words = [torch.tensor(row) for row in ([3, 0, 2], [1], [0, 0])]
        tags = [row % 2 for row in words]
        data = ColumnDataset("words", {"word": words}, {"tag": tags})
        return [TaskLoader(data, {"tagging": "tag"}, "train", name="words", batch_size=3, shuffle=False)]


@pytest.mark.parametrize("mask", [None, "word_mask"])
def test_padding_of_ragged_columns_is_left_out(mask: str | None, tmp_path: Path) -> None:
    flow = [{"name": "out", "module": "embedding", "inputs": "word"}]
    task = Task("tagging", flow=flow, label="tag", loss="cross_entropy", tokens="word")
    model = MultiTaskModel(
        [task], {"embedding": nn.Embedding(4, 2)}, optimizer={"class": "sgd", "lr": 0.1}, device="cpu"
    )
    table = model.network.state_dict()
    (before,) = [weight.clone() for weight in table.values() if weight.shape == (4, 2)]
    hook = SequenceToCsv(["word", "tag", "tagging/pred"], "_uids_", "s.csv", pad_mask_variable=mask)
    run_hook(hook, model=model, dataset=Words(), output_dir=tmp_path)
    with (tmp_path / "s.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["_uids_", "index", "word", "tag", "tagging/pred"]
    words, tags = (["3", "0", "2", "1", "0", "0"], ["1", "0", "0", "1", "0", "0"])
    assert [row[1:4] for row in rows[1:7]] == [list(row) for row in zip("012001", words, tags, strict=True)]
    assert [int(row[4]) for row in rows[1:7]] == [int(before[int(word)].argmax()) for word in words]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"variables": "area"}, "variables must be a list of names, such as [area], not 'area'"),
        ({"variables": ["area", "index"]}, "two columns would be called 'index'"),
        ({"id_variable": "area"}, "two columns would be called 'area'"),
        ({"pad_mask_variable": 1}, "pad_mask_variable must be the name of a variable, not 1"),
        ({"path": "scores.json"}, "is what the run itself writes"),
        ({"output_file": "a.csv"}, "the argument 'output_file' is called 'path' here"),
    ],
    ids=["text", "index", "id", "mask", "reserved", "old name"],
)
def test_mistakes_are_told_before_the_first_batch(arguments: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        write(tmp_path, BATCH, **arguments)
    assert says in str(caught.value)
    assert caught.value.path[0] == next(iter(arguments))


@pytest.mark.parametrize(
    ("changes", "arguments", "says"),
    [
        (
            {"color": [["r"], ["w"]]},
            {},
            "sequences of example 'a' in stream 'train' differ in length: 3 of 'area', 1 of",
        ),
        ({"area": [1, 2]}, {}, "'area' of stream 'train' has no sequence for an example, but 1"),
        ({"m": [[1], [1]]}, {"pad_mask_variable": "m"}, "the mask 'm' has 1 entries for a sequence of 3"),
        ({"m": [1, 1]}, {"pad_mask_variable": "m"}, "the mask 'm' has no entries for a sequence of 3"),
        ({}, {"pad_mask_variable": "mask"}, "lacks the variable 'mask'"),
    ],
    ids=["lengths", "number", "mask", "mask of rows", "no mask"],
)
def test_values_that_do_not_fit_are_told_of(
    changes: dict[str, Any], arguments: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(EmloopError) as caught:
        write(tmp_path, {**BATCH, **changes}, **arguments)
    assert says in str(caught.value)
