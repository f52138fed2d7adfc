"""Where the main loop says that a label stands."""

from typing import Any

import pytest
import torch
from torch import nn

from emloop_mtl import AbstractDataset, Action, ColumnDataset, MainLoop, MultiTaskModel, Task, TaskLoader
from emloop_mtl.data import Batch
from emloop_mtl.errors import DataError
from emloop_mtl.hooks import StopAfter


def test_a_label_that_its_loss_refuses_is_told_with_stream_batch_and_loader() -> None:
    task = Task("kind", {"head": nn.Linear(4, 3)}, [Action("o", "head", "x")], "kind", "cross_entropy")

    class Data(AbstractDataset):
        def train_stream(self) -> Any:
            labels = [torch.tensor([0, 1]), torch.tensor([2, 7])]
            return [Batch({"x": torch.ones(2, 4), "kind": label}, data_name="shelf") for label in labels]

    loop = MainLoop(
        MultiTaskModel([task], optimizer="sgd", device="cpu"), Data(), [StopAfter(epochs=1)], skip_zeroth_epoch=True
    )
    expected = r"^stream 'train', batch 1, loader 'shelf': task 'kind', source 'kind': label 7 in row 1"
    with pytest.raises(DataError, match=expected):
        loop.run_training()


def test_the_label_that_a_loader_names_holds_for_its_batches_and_that_of_the_task_for_others() -> None:
    task = Task(
        "kind", {"head": nn.Linear(4, 3)}, [Action("o", "head", "x")], "kind", "cross_entropy", metrics=["accuracy"]
    )
    model = MultiTaskModel([task], optimizer="sgd", device="cpu")
    x = torch.randn(6, 4)
    with torch.no_grad():
        said = model.network({"x": x})["o"].argmax(1)
    columns = ColumnDataset("rows", {"x": x}, {"kind": said, "judged": (said + 1) % 3})
    named = {"own": None, "other": {"kind": "judged"}}
    loaders = [TaskLoader(columns, tasks, "valid", name=name, batch_size=6) for name, tasks in named.items()]
    scores = model.score(loaders)
    assert scores["kind/own/valid/accuracy"] == 1, "all labels are what the model says"
    assert scores["kind/other/valid/accuracy"] == 0, "no label is"
