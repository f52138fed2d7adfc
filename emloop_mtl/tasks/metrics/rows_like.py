"""Rows that are like others, but differ as much as they can."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np

Rows: TypeAlias = np.ndarray[Any, Any]

_NUMBER = 16
"""How many rows of values there are."""


def rows_like(labels: Rows, second: Rows, is_probable: bool) -> Iterator[tuple[Rows, Rows]]:
    """Yield labels and predictions that may be of the same kind as those given, each time of another kind.

    :param labels: [n], or [n, k]
    :param second: [n], [n, k], or [n, classes] for labels [n]
    :param is_probable: whether ``second`` holds probabilities, and no predictions
    """
    are_classes = _are_whole(labels) and (is_probable or _are_whole(second))
    if labels.ndim == 1 and second.ndim == 2:
        classes = np.arange(second.shape[1]).repeat(2)
        yield classes, np.eye(second.shape[1])[classes]
    elif labels.shape[1:] != second.shape[1:]:
        return
    elif labels.ndim == 2 and bool(((labels == 0) | (labels == 1)).all()):
        one = np.eye(labels.shape[1], dtype=np.int64)
        sets = np.concatenate([one, 1 - one])
        yield sets, (0.25 + 0.5 * sets if is_probable else sets)
    elif labels.ndim == 1 and are_classes:
        for classes in _classes(labels, second, is_probable):
            yield classes, (0.25 + 0.5 * (classes == classes.max()) if is_probable else classes)
    if not are_classes or labels.dtype.kind == "f":
        draw = np.random.default_rng(0)
        columns = [draw.normal(size=(_NUMBER, *labels.shape[1:])) for _ in range(2)]
        yield columns[0], columns[1]
        yield np.exp(columns[0]), np.exp(columns[1])
        yield 1 / (1 + np.exp(columns[0])), 1 / (1 + np.exp(columns[1]))


def _are_whole(numbers: Rows) -> bool:
    return bool((numbers == np.round(numbers)).all())


def _classes(labels: Rows, second: Rows, is_probable: bool) -> Iterator[Rows]:
    """Yield labels of classes, each class twice: those that were seen, counted from 0 and as they are."""
    seen = np.unique(labels if is_probable else np.concatenate([labels, second])).astype(np.int64)
    if len(seen) > 1:
        yield seen.repeat(2)
    if seen[0] >= 0:
        yield np.arange(max(2, int(seen[-1]) + 1)).repeat(2)
    elif len(seen) == 1:
        yield np.array([seen[0], -seen[0]]).repeat(2)
