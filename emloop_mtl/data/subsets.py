"""Datasets that are a part of another one."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import Subset


def whole(dataset: Any) -> Any:
    """Return what a dataset is a subset of, or the dataset itself."""
    while type(dataset) is Subset:
        dataset = dataset.dataset
    return dataset


def rows_of(dataset: Any, rows: torch.Tensor) -> torch.Tensor:
    """Return the numbers that rows of a dataset have in what it is a subset of."""
    while type(dataset) is Subset:
        rows = torch.as_tensor(dataset.indices, dtype=torch.int64)[rows]
        dataset = dataset.dataset
    return rows
