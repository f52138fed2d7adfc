"""A model for joint learning, batches of several tasks, and what they must come to, for tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from emloop_mtl import Batch, ColumnDataset, JointLearning, MultiTaskDataset, TaskLoader
from emloop_mtl.data.share import Share

CLASSES = {1: 3, 2: 2, 7: 4}
"""The ids of the tasks, and how many classes they have."""


def make_model(seed: int = 0, heads: Any = None, **settings: Any) -> JointLearning:
    """Make a backbone of two layers with a linear head for each id."""
    torch.manual_seed(seed)
    backbone = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh())
    heads = {key: nn.Linear(5, number) for key, number in CLASSES.items()} if heads is None else heads
    mapping = {"backbone": {"x": "input"}}
    options = {"optimizer": {"class": "sgd", "lr": 0.1}, "device": "cpu", "label": "y", "arg_name_mapping": mapping}
    return JointLearning(backbone, heads, **{**options, **settings})


def make_rows(count: int = 12, seed: int = 0) -> dict[str, Tensor]:
    """Make rows of the tasks in turn, each with a class of its task."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.tensor(list(CLASSES)).repeat(count)[:count]
    ids = ids[torch.randperm(count, generator=generator)]
    numbers = torch.tensor([CLASSES[key] for key in ids.tolist()])
    y = (torch.rand(count, generator=generator) * numbers).long()
    return {"x": torch.randn(count, 4, generator=generator), "y": y, "task_id": ids}


def grouped(rows: Mapping[str, Tensor]) -> Batch:
    """Return rows as a batch without ids that knows which rows are of which task, as a scheduler mixes them."""
    ids = rows["task_id"]
    batch = Batch({"x": rows["x"], "y": rows["y"]}, tasks={str(key): "y" for key in CLASSES if key in ids})
    for name in batch.tasks:
        found = (ids == int(name)).nonzero().squeeze(1)
        batch.shares[name], batch.rows[name] = Share(found, found), found
    return batch


def by_hand(model: JointLearning, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what a batch must come to, computed row by row."""
    network = model.network
    encoded = network["backbone"](rows["x"])
    logits = [network[str(key)](row) for key, row in zip(rows["task_id"].tolist(), encoded, strict=True)]
    preds = torch.stack([row.argmax() for row in logits])
    losses = [functional.cross_entropy(row, label) for row, label in zip(logits, rows["y"], strict=True)]
    means, shares = [], []
    for key in dict.fromkeys(rows["task_id"].tolist()):
        own = [row for row, other in enumerate(rows["task_id"].tolist()) if other == key]
        means.append(sum(losses[row] for row in own) / len(own))
        shares.append(sum(float(preds[row] == rows["y"][row]) for row in own) / len(own))
    return {
        "loss": torch.as_tensor(sum(means) / len(means)),
        "acc": torch.tensor(sum(shares) / len(shares)),
        "preds": preds,
    }


class Tasks(MultiTaskDataset):
    """Rows of all tasks: with ids in one loader of the stream ``train``, one loader for each task in the others.

    :param is_mixed: whether there is one loader of all tasks to train on; else there is one for each
    :param lacks_labels: whether each fifth row has the label -100
    :param batch_size: rows of a batch of the loader of all tasks
    """

    def __init__(self, is_mixed: bool = True, lacks_labels: bool = False, batch_size: int = 8, **settings: Any) -> None:
        super().__init__(**settings)
        self._is_mixed = is_mixed
        self._lacks_labels = lacks_labels
        self._batch_size = batch_size

    def loaders(self) -> Iterator[TaskLoader]:
        for split, count in (("train", 50), ("valid", 30), ("test", 21)):
            rows = make_rows(count, seed=count)
            if self._lacks_labels:
                rows["y"][::5] = -100
            if split == "train" and self._is_mixed:
                data = ColumnDataset("mixed", {"x": rows["x"], "task_id": rows["task_id"]}, {"y": rows["y"]})
                yield TaskLoader(data, split=split, batch_size=self._batch_size)
                continue
            for key in CLASSES:
                own = rows["task_id"] == key
                data = ColumnDataset(f"of {key}", {"x": rows["x"][own]}, {"y": rows["y"][own]})
                yield TaskLoader(data, {str(key): "y"}, split=split, batch_size=4)
