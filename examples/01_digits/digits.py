"""Handwritten digits with three labels each: which digit, odd or even, and how much ink."""

from __future__ import annotations

from typing import Any

import torch

from emloop_mtl import ColumnDataset, MultiTaskDataset, TaskLoader

NO_LABEL = -100
"""Marks a row without a label; the task declares it in the config as ``missing_label``."""

SPLITS = {"train": 1197, "valid": 300, "test": 300}


class Digits(MultiTaskDataset):
    """The 1797 images of 8 × 8 pixels that come with scikit-learn, split once and for all.

    Sources: ``image`` float32 [n, 1, 8, 8] in 0..1, ``digit`` int64 [n] in 0..9, ``parity`` int64 [n] (1: odd),
    ``ink`` float32 [n], the mean brightness, standardised over the training images. Every fifth training image lacks
    its ``parity``.

    :param batch_size: rows per batch
    :param max_rows: use only so many rows of each split, for a quick trial; None for all
    :param settings: what every ``MultiTaskDataset`` takes: ``seed`` and ``streams``
    """

    def __init__(self, batch_size: int = 32, max_rows: int | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self._batch_size = batch_size
        self._max_rows = max_rows

    def loaders(self) -> list[TaskLoader]:
        """Return one loader per split; every batch carries all three tasks."""
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        image = torch.from_numpy(pixels).float().div(16).reshape(-1, 1, 8, 8)
        digit = torch.from_numpy(labels).long()
        # A generator of its own: the split is the same in every run, whatever the run's seed.
        order = torch.randperm(len(digit), generator=torch.Generator().manual_seed(0))
        rows = dict(zip(SPLITS, order.split(list(SPLITS.values())), strict=True))
        brightness = image.mean(dim=(1, 2, 3))
        train = brightness[rows["train"]]
        ink = (brightness - train.mean()) / train.std()
        parity = digit % 2
        parity[rows["train"][::5]] = NO_LABEL
        columns = {"digit": digit, "parity": parity, "ink": ink}
        return [
            TaskLoader(
                ColumnDataset(
                    "digits",
                    features={"image": image[chosen]},
                    labels={name: column[chosen] for name, column in columns.items()},
                ),
                tasks={name: name for name in columns},
                split=split,
                batch_size=self._batch_size,
            )
            for split, chosen in ((split, chosen[: self._max_rows]) for split, chosen in rows.items())
        ]
