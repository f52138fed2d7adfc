"""First values of parameters by patterns of their names."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from emloop_mtl import ConfigError
from emloop_mtl.models.initializer import Initializer

from .heads import make_model


def values(entries: list[Any]) -> dict[str, set[float]]:
    """Return the values that parameters have got, of those that were given constants."""
    model = make_model(initializer=entries)
    found = {name: set(tensor.flatten().tolist()) for name, tensor in model.network.named_parameters()}
    return {name: numbers for name, numbers in found.items() if len(numbers) == 1}


def test_parameters_are_set_by_the_first_pattern_that_is_found_in_their_name() -> None:
    half = partial(nn.init.constant_, val=0.5)
    found = values([["topic.*bias", "ones_"], ["bias$", half], [r"^mood\.", "zeros"]])
    assert found == {
        "backbone.layer.bias": {0.5},
        "topic.layer.bias": {1.0},
        "mood.bias": {0.5},
        "mood.weight": {0.0},
    }


def test_a_parameter_that_is_prevented_keeps_its_values_wherever_that_stands() -> None:
    found = values([["bias$", "zeros"], ["^topic", "prevent"], ["mood", "ones"]])
    assert found == {"backbone.layer.bias": {0.0}, "mood.bias": {0.0}, "mood.weight": {1.0}}


def test_other_parameters_keep_what_their_modules_have_given_them() -> None:
    plain, changed = make_model(), make_model(initializer=[["^mood", "zeros"]])
    for name, tensor in plain.network.named_parameters():
        assert torch.equal(tensor, changed.state_dict()[name]) is not name.startswith("mood")


@pytest.mark.parametrize(
    ("entries", "path", "says"),
    [
        ([["bais", "zeros"]], (0, 0), "pattern 'bais' is found in the name of no parameter"),
        ([["bias", "zeros"], ["^layer.bias", "ones"]], (1, 0), "pattern '^layer.bias' sets no parameter, as 'bias' is"),
        ([["bias", "zeros"], ["(", "zeros"]], (1, 0), "'(' is no regular expression"),
        ([["bias", "zeroes"]], (0, 1), "torch.nn.init has no 'zeroes'; did you mean 'zeros'?"),
        ([["bias", "constant"]], (0, 1), "constant_ needs its argument 'val'"),
        ([["bias", 3]], (0, 1), "expected a function that sets a parameter, its name, or 'prevent', not 3"),
        ([["bias"]], (0,), "expected a pair [pattern, function], not ['bias']"),
        ([["bias", "xavier_uniform"]], (0, 1), "parameter 'layer.bias' of shape (2,) cannot be set"),
        ({"bias": "zeros"}, (), "initializer must be a list of pairs"),
    ],
)
def test_a_wrong_initializer_is_an_error(entries: Any, path: tuple[int, ...], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Initializer(entries)(dict(nn.ModuleDict({"layer": nn.Linear(3, 2)}).named_parameters()))
    assert says in str(caught.value)
    assert caught.value.path == path
