"""Handwritten digits, turned by a quarter, a half and three quarters: a task for each direction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from emloop_mtl import ColumnDataset, MultiTaskDataset, TaskLoader

SPLITS = {"train": 1197, "valid": 300, "test": 300}
"""How many of the 1797 digits a split has; each of them comes in every direction."""


class TurnedDigits(MultiTaskDataset):
    """The 8 × 8 images that come with scikit-learn, turned. A task is a direction, and its id the degrees.

    Sources: ``image`` float32 [n, 1, 8, 8] in 0..1, ``digit`` int64 [n] in 0..9, and in training ``task_id`` int64
    [n]. The stream ``train`` mixes the tasks in its batches; the others go through them one by one, in
    batches without ids whose loader names the task.

    :param batch_size: rows per batch
    :param degrees: the tasks: by how much the digits are turned, multiples of 90
    :param max_rows: use only so many digits of each split, for a quick trial; None for all
    :param settings: what every ``MultiTaskDataset`` takes: ``seed`` and ``streams``
    """

    def __init__(
        self,
        batch_size: int = 64,
        degrees: Sequence[int] = (0, 90, 180, 270),
        max_rows: int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self._batch_size = batch_size
        self._degrees = tuple(degrees)
        self._max_rows = max_rows

    def loaders(self) -> list[TaskLoader]:
        """Return one loader of all tasks to train on, and one for each task in the other splits."""
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        image = torch.from_numpy(pixels).float().div(16).reshape(-1, 1, 8, 8)
        digit = torch.from_numpy(labels).long()
        order = torch.randperm(len(digit), generator=torch.Generator().manual_seed(0))
        loaders = []
        for split, rows in zip(SPLITS, order.split(list(SPLITS.values())), strict=True):
            own = rows[: self._max_rows]
            turned = {degrees: image[own].rot90(degrees // 90, dims=(2, 3)) for degrees in self._degrees}
            if split == "train":
                features = {
                    "image": torch.cat(list(turned.values())),
                    "task_id": torch.tensor(self._degrees).repeat_interleave(len(own)),
                }
                mixed = ColumnDataset("turned", features, {"digit": digit[own].repeat(len(self._degrees))})
                loaders.append(TaskLoader(mixed, split=split, batch_size=self._batch_size))
                continue
            for degrees, images in turned.items():
                data = ColumnDataset(f"turned_{degrees}", {"image": images}, {"digit": digit[own]})
                tasks = {str(degrees): "digit"}
                loaders.append(TaskLoader(data, tasks=tasks, split=split, batch_size=self._batch_size))
        return loaders
