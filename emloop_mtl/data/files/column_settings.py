"""What is said of a column of a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ...errors import ConfigError, nearest

TEXT = "text"

DTYPES = (
    *(TEXT, "bool", "uint8", "int8", "int16", "int32", "int64"),
    *("float16", "float32", "float64"),
)
"""What ``dtypes`` may name."""


@dataclass(frozen=True)
class ColumnSettings:
    """What the user says of a column, where it does not speak for itself.

    :param dtype: one of ``DTYPES``; None to take it from the file
    :param missing: what stands for a cell without a value; None for nan, where that can be
    :param classes: texts that stand for 0, 1, …; None for a column that is none of classes
    """

    dtype: str | None = None
    missing: Any = None
    classes: Sequence[Any] | None = None

    @classmethod
    def check(cls, column: str, dtype: Any, missing: Any, classes: Any) -> ColumnSettings:
        """Return the settings of a column.

        :raise ConfigError: for one that cannot be, with its place among the arguments
        """
        if dtype is not None and dtype not in DTYPES:
            text = f"{dtype!r} is no dtype of a column{nearest(str(dtype), DTYPES)}"
            raise ConfigError(text, ("dtypes", column))
        if missing is not None and not isinstance(missing, bool | int | float | str):
            raise ConfigError("a number or a text is needed, such as -100", ("missing", column))
        if classes is not None:
            path = ("classes", column)
            if isinstance(classes, str) or not isinstance(classes, Sequence) or not classes:
                raise ConfigError("a list of the classes is needed, in the order of their numbers", path)
            if len(set(map(str, classes))) < len(classes):
                raise ConfigError("a class stands here twice", path)
            if dtype is not None:
                raise ConfigError("classes are numbers of dtype int64; leave out one of both", ("dtypes", column))
            if missing is not None and (isinstance(missing, bool) or not isinstance(missing, int)):
                raise ConfigError("classes are whole numbers, and so is their mark", ("missing", column))
            classes = tuple(map(str, classes))
        return cls(dtype, missing, classes)


def default_float() -> str:
    """Return the name of torch's default dtype, in which doubles of files come unless ``dtypes`` says otherwise."""
    return str(torch.get_default_dtype()).removeprefix("torch.")
