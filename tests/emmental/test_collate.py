"""The batches that Emmental 0.1.1 made of samples, held against those of columns and of samples here."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emloop_mtl import ColumnDataset, TaskLoader
from emloop_mtl.errors import EmloopError

VECTORS = json.loads(Path(__file__).with_suffix("").with_name("collate.json").read_text(encoding="utf-8"))

CASES: dict[str, dict[str, Any]] = {
    f"{case['name']}-{case['min_data_len']}-{case['max_data_len']}": case for case in VECTORS["cases"]
}

DIFFERENCES = {
    "min over max": "a min_data_len above max_data_len is a mistake, and refused; there the minimum wins",
    "zeros": "a mask marks what was padded; there every zero, and every False, counts as padding",
    "masks of labels": "sequences of labels bring a mask too, so that a loss can tell them from padding",
    "flattening": "what differs in more than its length is refused; there it is flattened to one dimension",
    "lists": "a list is one value of its row; there the lists of all rows are joined, so that rows are lost",
    "dtypes": "the smallest dtype that holds all rows; there that of the first, which cuts fractions off",
    "arrays": "arrays of numpy are treated as tensors; there they stay a list",
    "numbers": "numbers make a tensor; there they stay a list as features and fail as labels",
    "missing fields": "a row without a value is refused; there the others move up, and rows mix",
}


def columns_of(case: Mapping[str, Any], part: str) -> dict[str, list[Any]]:
    """Return the features or labels of a case, name -> values of the rows that have one."""
    found: dict[str, list[Any]] = {}
    for sample in case["batch"]:
        for name, value in (sample[part] or {}).items():
            found.setdefault(name, []).append(read(value))
    return found


def read(value: Any) -> Any:
    if isinstance(value, Mapping):
        if "ndarray" in value:
            return np.array(value["ndarray"])
        return torch.tensor(value["tensor"], dtype=getattr(torch, value["dtype"])).reshape(value["shape"])
    return [read(item) for item in value] if isinstance(value, list) else value


def of_columns(case: Mapping[str, Any]) -> dict[str, Any]:
    """Return the batch of all rows, read from columns."""
    lengths = {"min_data_len": case["min_data_len"], "max_data_len": case["max_data_len"]}
    data = ColumnDataset("d", columns_of(case, "x"), columns_of(case, "y"), **lengths)
    [batch] = TaskLoader(data, split="valid", batch_size=len(data))
    again = data.__getitems__(range(len(data)))
    assert_same(dict(batch), again)
    return {name: value for name, value in batch.items() if name != "_uids_"}


def of_samples(case: Mapping[str, Any]) -> dict[str, Any]:
    """Return the batch of all rows, collated from samples of a dataset that is no ColumnDataset."""
    samples = [tuple({n: read(v) for n, v in (s[part] or {}).items()} for part in ("x", "y")) for s in case["batch"]]
    values = {**columns_of(case, "x"), **columns_of(case, "y")}
    ragged = [n for n, rows in values.items() if all(getattr(row, "ndim", 0) == 1 for row in rows)]
    lengths = {"min_data_len": case["min_data_len"], "max_data_len": case["max_data_len"]} if ragged else {}
    [batch] = TaskLoader(samples, split="valid", batch_size=len(samples), ragged=ragged, **lengths)
    return {name: value for name, value in batch.items() if name != "_uids_"}


def assert_same(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, torch.Tensor):
            assert found[name].dtype == value.dtype, name
            assert torch.equal(found[name], value), name
        else:
            assert repr(found[name]) == repr(value), name  # tensors in lists have no truth value


Change = Callable[[dict[str, Any], Mapping[str, Any]], None]


def padding(source: str, *lengths: int) -> Change:
    """The mask is of padding alone."""

    def change(batch: dict[str, Any], case: Mapping[str, Any]) -> None:
        batch[f"{source}_mask"] = torch.arange(batch[source].shape[1]) >= torch.tensor(lengths).unsqueeze(1)

    return change


def stays(source: str) -> Change:
    """The values of the rows stay a list."""

    def change(batch: dict[str, Any], case: Mapping[str, Any]) -> None:
        batch[source] = [read({**s["x"], **s["y"]}[source]) for s in case["batch"]]
        batch.pop(f"{source}_mask", None)

    return change


def becomes(source: str, *rows: Any, dtype: torch.dtype | None = None, mask: list[list[bool]] | None = None) -> Change:
    """The values of the rows become a tensor."""

    def change(batch: dict[str, Any], case: Mapping[str, Any]) -> None:
        batch[source] = torch.tensor(rows, dtype=dtype)
        if mask is not None:
            batch[f"{source}_mask"] = torch.tensor(mask)

    return change


REFUSED: dict[str, tuple[str, str]] = {
    "ragged_2d_flattened": ("flattening", "'a'.*shape"),
    "mixed_dims": ("flattening", "'a'.*shape|'a'.*only if all of them are 1-d"),
    "mixed_1d_2d_same_count": ("flattening", "'a'.*shape|'a'.*only if all of them are 1-d"),
    "missing_field_in_one": ("missing fields", "'b' has 1|'b' is in some samples but not in all"),
}
"""Case -> which of the differences it shows, and what is said of it."""

CHANGED: dict[str, tuple[str, list[Change]]] = {
    "equal_1d_with_zero": ("zeros", [padding("a", 2, 2)]),
    "ragged_1d": ("zeros", [padding("a", 3, 1, 2)]),
    "bool": ("zeros", [padding("a", 2, 1)]),
    "label_1d": ("masks of labels", [padding("y", 2, 2)]),
    "label_ragged": ("masks of labels", [padding("y", 3, 1)]),
    "single_scalar_2d_labels": ("masks of labels", [padding("y", 1, 1)]),
    "lists_of_tensors_concatenated": ("lists", [stays("a")]),
    "list_of_strings_concatenated": ("lists", [stays("s")]),
    "label_list": ("lists", [stays("y")]),
    "python_numbers": ("numbers", [becomes("n", 1.0, 2.5)]),
    "numpy_arrays_left_alone": (
        "arrays",
        [becomes("n", [1.0, 2.0], [3.0, 0.0], dtype=torch.float64, mask=[[False, False], [False, True]])],
    ),
}
"""Case -> which of the differences it shows, and what is changed in Emmental's batch to be ours."""


def expected_of(case: Mapping[str, Any]) -> dict[str, Any]:
    batch = {name: read(value) for part in ("x", "y") for name, value in (case["out"][part] or {}).items()}
    for change in CHANGED.get(case["name"], ("", []))[1]:
        change(batch, case)
    if case["name"] == "numpy_arrays_left_alone" and case["min_data_len"] == 4:
        batch["n"] = torch.nn.functional.pad(batch["n"], (0, 2))
        batch["n_mask"] = torch.nn.functional.pad(batch["n_mask"], (0, 2), value=True)
    if case["name"].startswith("dtype_of_first_wins"):
        rows = columns_of(case, "x")["a"]
        width = batch["a"].shape[1]
        batch["a"] = torch.tensor([[*row.tolist(), *[0.0] * (width - len(row))] for row in rows])
        padding("a", *map(len, rows))(batch, case)
    return batch


def is_inverted(case: Mapping[str, Any]) -> bool:
    return bool(0 < case["max_data_len"] < case["min_data_len"])


@pytest.mark.parametrize("kind", [of_columns, of_samples])
@pytest.mark.parametrize("name", CASES)
def test_a_batch_is_collated_as_in_emmental_but_for_the_differences(
    name: str, kind: Callable[[Mapping[str, Any]], dict[str, Any]]
) -> None:
    case = CASES[name]
    if is_inverted(case) and not (kind is of_samples and not has_sequences(case)):
        with pytest.raises(EmloopError, match=r"min_data_len 3 is more than max_data_len 2"):
            kind(case)
    elif case["name"] in REFUSED:
        assert REFUSED[case["name"]][0] in DIFFERENCES
        with pytest.raises(EmloopError, match=REFUSED[case["name"]][1]):
            kind(case)
    elif case["name"] == "label_not_tensor":
        assert kind(case)["y"].tolist() == [1, 0]
    elif case["name"] == "first_not_tensor" and kind is of_samples:
        with pytest.raises(EmloopError, match=r"'a': sample 0 of the batch has shape \[\], sample 1 has \[1\]"):
            kind(case)
    else:
        assert CHANGED.get(case["name"], ("zeros", []))[0] in DIFFERENCES
        assert_same(kind(case), expected_of(case))


def has_sequences(case: Mapping[str, Any]) -> bool:
    values = [*columns_of(case, "x").values(), *columns_of(case, "y").values()]
    return any(all(getattr(row, "ndim", 0) == 1 for row in rows) for rows in values)


def test_every_listed_difference_is_shown_by_a_case() -> None:
    shown = {reason for reason, _ in (*REFUSED.values(), *CHANGED.values())} | {"dtypes"}
    assert any(map(is_inverted, CASES.values()))
    assert shown | {"min over max"} == DIFFERENCES.keys()
    names = {case["name"] for case in CASES.values()}
    assert REFUSED.keys() | CHANGED.keys() <= names


def test_every_difference_of_batches_stands_in_the_manual() -> None:
    manual = (Path(__file__).parents[2] / "docs" / "emmental.md").read_text(encoding="utf-8")
    section = manual.split("**Data**")[1].split("**Learning**")[0]
    words = " ".join(section.split())
    for told in ("min_data_len", "mask", "flatten", "lists", "dtype", "numpy", "numbers", "without a value"):
        assert re.search(told, words), told
