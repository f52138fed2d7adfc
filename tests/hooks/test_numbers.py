from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from emloop_mtl.hooks.numbers import fetch_numbers, show_number


def test_numbers_of_all_kinds_are_fetched_in_order() -> None:
    values: list[Any] = [
        1,
        torch.tensor(2.0),
        "three",
        np.float32(4),
        torch.tensor(5, dtype=torch.int64),
        [6.0],
        torch.ones(1),
        torch.tensor(8.0, requires_grad=True),
        None,
        True,
        np.array(11.0),
        *range(12, 30),
    ]
    missing = {2, 5, 6, 8}
    expected = [None if index in missing else float(index + 1) for index in range(29)]
    expected[9] = 1.0
    assert fetch_numbers(values) == expected


def test_nothing_is_fetched_from_nothing() -> None:
    assert fetch_numbers([]) == []


def test_numbers_that_are_not_finite_are_numbers() -> None:
    nan, infinity = fetch_numbers([torch.tensor(math.nan), -math.inf])
    assert nan is not None
    assert math.isnan(nan)
    assert infinity == -math.inf


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.0, "0.0000"), (0.97123, "0.9712"), (-0.001, "-0.0010"), (0.00099, "9.900e-04"), (1e6, "1.000e+06")],
)
def test_numbers_are_shown_with_digits_that_say_something(number: float, text: str) -> None:
    assert show_number(number) == text
