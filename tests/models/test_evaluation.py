"""What scoring and predicting leave behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from emloop_mtl.data.batch import Batch
from emloop_mtl.data.column_dataset import ColumnDataset
from emloop_mtl.data.task_loader import TaskLoader
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.tasks import Action, Task


class KeepingLoader(TaskLoader):
    """Makes its batches once, and hands out the same ones in every walk."""

    kept: list[Batch] | None = None

    def __iter__(self) -> Iterator[Batch]:
        if self.kept is None:
            self.kept = list(super().__iter__())
        return iter(self.kept)


@pytest.mark.parametrize("evaluate", [MultiTaskModel.score, MultiTaskModel.predict], ids=["score", "predict"])
def test_batches_that_a_loader_keeps_are_left_as_they_are(evaluate: Callable[..., Any]) -> None:
    task = Task("t", {"head": nn.Linear(4, 3)}, [Action("out", "head", "x")], label="y", loss="cross_entropy")
    model = MultiTaskModel([task], device="cpu")
    data = ColumnDataset("d", {"x": torch.ones(9, 4)}, {"y": torch.zeros(9, dtype=torch.long)})
    loader = KeepingLoader(data, {"t": "y"}, split="valid", batch_size=4)
    names = [set(batch) for batch in loader]
    evaluate(model, loader)
    assert loader.kept is not None
    assert [set(batch) for batch in loader.kept] == names
    assert not any(batch.prepared for batch in loader.kept)
