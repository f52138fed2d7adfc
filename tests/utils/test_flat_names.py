from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from emloop_mtl.errors import ConfigError
from emloop_mtl.types import EpochData
from emloop_mtl.utils.flat_names import flat_name, flatten, stream_of_score


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("valid", "digit/digits/accuracy"), "digit/digits/valid/accuracy"),
        (("valid", "model/all/micro_average"), "model/all/valid/micro_average"),
        (("all", "model/all/micro_average"), "model/all/all/micro_average"),
        (("all", "mine"), "mine"),
        (("all", "my/own/number"), "my/own/number"),
        (("all", "mine", "mean"), "mine/mean"),
        (("train", "loss"), "train/loss"),
        (("train", "loss", "mean"), "train/loss/mean"),
        (("train", "digit/loss", "mean"), "train/digit/loss/mean"),
        (("valid", "digit/digits/recall/class_3"), "digit/digits/valid/recall/class_3"),
        (("valid", "digit/digits/accuracy", "std"), "digit/digits/valid/accuracy/std"),
    ],
)
def test_flat_name(arguments: tuple[str, ...], name: str) -> None:
    assert flat_name(*arguments) == name


def test_flatten_takes_numbers_of_all_kinds_in_order() -> None:
    epoch_data: EpochData = {
        "train": {"loss": {"mean": torch.tensor(0.5, requires_grad=True), "std": np.float32(0.25)}, "steps": 7},
        "valid": {
            "digit/digits/accuracy": 0.75,
            "digit/digits/count": np.int64(3),
            "flag": True,
            "checked": np.bool_(False),
            "array": np.array(1.5),
            "large": torch.tensor(2**53 - 1),
        },
        "all": {"model/all/micro_average": torch.tensor(math.nan)},
    }
    numbers = flatten(epoch_data)
    assert list(numbers) == [
        "train/loss/mean",
        "train/loss/std",
        "train/steps",
        "digit/digits/valid/accuracy",
        "digit/digits/valid/count",
        "valid/flag",
        "valid/checked",
        "valid/array",
        "valid/large",
        "model/all/all/micro_average",
    ]
    assert all(type(number) is float for number in numbers.values())
    assert math.isnan(numbers.pop("model/all/all/micro_average"))
    assert list(numbers.values()) == [0.5, 0.25, 7.0, 0.75, 3.0, 1.0, 0.0, 1.5, float(2**53 - 1)]


def test_flatten_leaves_out_what_is_no_real_number() -> None:
    values = {
        "text": "0.5",
        "none": None,
        "list": [1.0],
        "complex": 1j,
        "vector": torch.ones(1),
        "array": np.ones(1),
        "complex_tensor": torch.tensor(1j),
        "text_array": np.array("1"),
        "nested": {"mean": "x"},
    }
    assert flatten({"train": {**values, "loss": 1}}) == {"train/loss": 1.0}
    assert flatten({}) == {}


@pytest.mark.parametrize("name", ["epoch", "step", "samples"])
def test_flatten_refuses_the_names_of_the_position(name: str) -> None:
    with pytest.raises(ConfigError, match=f"'{name}' is the position in logs; rename that variable of stream 'all'"):
        flatten({"all": {name: 1}})
    assert flatten({"train": {name: 1}}) == {f"train/{name}": 1.0}


@pytest.mark.parametrize(
    ("name", "stream"),
    [
        ("digit/digits/valid/accuracy", "valid"),
        ("digit/digits/valid/recall/class_3", "valid"),
        ("model/all/all/loss", "all"),
        ("train/digit/loss", None),
        ("mine", None),
    ],
)
def test_stream_of_score(name: str, stream: str | None) -> None:
    assert stream_of_score(name) == stream


@pytest.mark.parametrize("number", [1.0, torch.tensor(1.0)])
def test_flatten_refuses_two_numbers_of_one_name(number: object) -> None:
    with pytest.raises(ConfigError, match="both called 'train/loss/mean'"):
        flatten({"train": {"loss": {"mean": number}, "loss/mean": 2.0}})
