"""Where the main loop says that a label stands."""

from typing import Any

import pytest
import torch
from torch import nn

from emloop_mtl import AbstractDataset, Action, MainLoop, MultiTaskModel, Task
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
