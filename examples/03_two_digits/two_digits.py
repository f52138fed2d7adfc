"""Two handwritten digits that overlap: which one is on the left, and which on the right?"""

from __future__ import annotations

from typing import Any

import torch

from emloop_mtl import ColumnDataset, MultiTaskDataset, TaskLoader

SPLITS = {"train": (1197, 3000), "valid": (300, 1000), "test": (300, 1000)}
"""How many of the 1797 digits a split has for itself, and how many pairs are made of them."""

SHIFT = 4
"""So many columns the right digit stands beside the left one; both are 8 columns wide, so half of each overlaps."""


class TwoDigits(MultiTaskDataset):
    """Pairs of the 8 × 8 images that come with scikit-learn, laid over each other with a shift.

    Sources: ``image`` float32 [n, 1, 8, 12] in 0..1, where two strokes meet the darker one; ``left`` and ``right``
    int64 [n] in 0..9. No image of a digit is in two splits, and the pairs are the same in every run.

    :param batch_size: rows per batch
    :param max_rows: use only so many pairs of each split, for a quick trial; None for all
    :param settings: what every ``MultiTaskDataset`` takes: ``seed`` and ``streams``
    """

    def __init__(self, batch_size: int = 64, max_rows: int | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self._batch_size = batch_size
        self._max_rows = max_rows

    def loaders(self) -> list[TaskLoader]:
        """Return one loader per split; every batch carries both tasks."""
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        image = torch.from_numpy(pixels).float().div(16).reshape(-1, 1, 8, 8)
        digit = torch.from_numpy(labels).long()
        generator = torch.Generator().manual_seed(0)
        order = torch.randperm(len(digit), generator=generator)
        loaders = []
        for (split, (_, pairs)), own in zip(SPLITS.items(), order.split([n for n, _ in SPLITS.values()]), strict=True):
            left, right = own[torch.randint(len(own), (2, pairs), generator=generator)]
            canvas = torch.zeros(2, pairs, 1, 8, 8 + SHIFT)
            canvas[0, ..., :8] = image[left]
            canvas[1, ..., SHIFT:] = image[right]
            columns = {"image": canvas.amax(0), "left": digit[left], "right": digit[right]}
            some = {name: column[: self._max_rows] for name, column in columns.items()}
            data = ColumnDataset("pairs", {"image": some.pop("image")}, some)
            tasks = {"left": "left", "right": "right"}
            loaders.append(TaskLoader(data, tasks=tasks, split=split, batch_size=self._batch_size))
        return loaders
