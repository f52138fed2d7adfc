from __future__ import annotations

import enum
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emloop_mtl.errors import CheckpointError
from emloop_mtl.types import Position
from emloop_mtl.utils.plain import MAX_DEPTH, check_plain, map_tensors


class Colour(enum.IntEnum):
    RED = 1


class Vector(torch.Tensor):
    pass


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (np.ones(2), r"hooks/Watch/history\[3\]: numpy.ndarray is no plain data; use torch.from_numpy"),
        (np.float64(1.0), r"numpy.float64 is no plain data; use .item\(\)"),
        (Position(), r"emloop_mtl.types.Position is no plain data; use tuple\(…\)"),
        (defaultdict(list), r"collections.defaultdict is no plain data; use dict\(…\)"),
        (Colour.RED, r"Colour is no plain data; use int\(…\)"),
        ({1, 2}, r"set is no plain data; use sorted\(…\)"),
        (Path("a"), r"Path is no plain data; plain are None, bool"),
        (torch.float32, "torch.dtype is no plain data"),
        (torch.ones(2).as_subclass(Vector), "Vector, a kind of tensor of its own"),
        (torch.ones(2).to_sparse(), r"layout torch.sparse_coo; use .to_dense\(\)"),
        (torch.ones(2, device="meta"), "meta device"),
        (2**2040, "an integer of 2041 bits"),
        ("\ud800", "no valid Unicode"),
        ({Colour.RED: 1}, "the key <Colour.RED: 1> is a .*Colour"),
        ({(1, ("a", Path("b"))): 1}, "keys are None, bool"),
    ],
)
def test_what_is_not_plain_is_named_with_its_place(value: Any, complaint: str) -> None:
    with pytest.raises(CheckpointError, match=complaint) as caught:
        check_plain({"Watch": {"history": [0, 1.5, None, value]}}, "hooks")
    assert str(caught.value).startswith("hooks/Watch/history[3]: ")


def test_what_holds_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(CheckpointError, match="holds itself"):
        check_plain(loop, "hooks/Watch")
    deep: Any = 1
    for _ in range(MAX_DEPTH):
        deep = (deep,)
    check_plain(deep)
    with pytest.raises(CheckpointError, match="levels deep"):
        check_plain([deep])


def test_map_tensors_copies_and_names_places() -> None:
    state = OrderedDict(a=[torch.tensor(1), (2, torch.tensor(3))], b={4: torch.nn.Parameter(torch.tensor(5.0))}, c=b"")
    places: list[str] = []

    def number(where: str, tensor: torch.Tensor) -> float:
        places.append(where)
        return float(tensor.detach())

    copy = map_tensors(state, number)
    assert copy == {"a": [1.0, (2, 3.0)], "b": {4: 5.0}, "c": b""}
    assert type(copy) is dict
    assert type(copy["a"][1]) is tuple
    assert places == ["a[0]", "a[1][1]", "b/4"]
    map_tensors([torch.tensor(1)], number, "hooks")
    assert places[-1] == "hooks[0]"
