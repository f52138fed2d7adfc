"""emloop: a model that runs a batch, a dataset of streams, and the main loop without hooks but for the clock."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import emloop
import torch
from emloop.hooks import StopAfter
from torch.nn.functional import cross_entropy

from ..clock import now
from ..trained import Trained
from ..workloads import Batch, Workload, make_batches, make_modules
from . import LEARNING_RATE, data_loader


class Model(emloop.AbstractModel):
    """The network and its optimizer."""

    def __init__(self, workload: Workload) -> None:
        super().__init__(None, "")
        self.parts = make_modules(workload)
        self.optimizer = torch.optim.SGD(self.parts.parameters(), lr=LEARNING_RATE)
        self.total = torch.zeros((), dtype=torch.float64)

    @property
    def input_names(self) -> list[str]:
        return ["x", "label_0"]

    @property
    def output_names(self) -> list[str]:
        return ["loss"]

    def run(self, batch: Batch, train: bool, stream: Any) -> dict[str, Any]:
        loss = cross_entropy(self.parts["head_0"](self.parts["trunk"](batch["x"])), batch["label_0"])
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        value = loss.detach()
        self.total += value
        return {"loss": value}

    def save(self, name_suffix: str) -> str:
        return ""


class Data(emloop.AbstractDataset):
    """The stream to train on."""

    def __init__(self, workload: Workload) -> None:
        super().__init__("")
        ready = workload.feeding == "ready"
        self._batches: Iterable[Batch] = make_batches(workload, "train") if ready else data_loader(workload)

    def train_stream(self) -> Iterable[Batch]:
        return iter(self._batches)


class Clock(emloop.AbstractHook):
    """Takes the time of every epoch."""

    def __init__(self, model: Model, found: Trained) -> None:
        super().__init__()
        self._model = model
        self._found = found
        self._began = now()

    def after_epoch(self, epoch_id: int, epoch_data: Any) -> None:
        self._found.train_seconds.append(now() - self._began)
        self._found.losses.append(self._model.total.item() / self._found.steps)
        self._model.total.zero_()
        self._began = now()


def train(workload: Workload, steps: int, epochs: int, folder: Path) -> Trained:
    """Train."""
    found, model = Trained(steps), Model(workload)
    hooks = [Clock(model, found), StopAfter(epochs=epochs)]
    loop = emloop.MainLoop(model, Data(workload), hooks, fixed_epoch_size=steps, skip_zeroth_epoch=True)
    loop.run_training()
    found.weights = model.parts.state_dict()
    return found
