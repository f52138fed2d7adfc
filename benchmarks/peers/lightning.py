"""Lightning: a module with a training step, and a trainer."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ..clock import now
from ..trained import Trained
from ..workloads import BATCHES, Batch, Workload, make_batches, make_modules
from . import LEARNING_RATE, data_loader


class Module(lightning.LightningModule):
    """The network, with what Lightning is told about it."""

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        self.parts = make_modules(workload)
        self.total = torch.zeros((), dtype=torch.float64)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        loss = cross_entropy(self.parts["head_0"](self.parts["trunk"](batch["x"])), batch["label_0"])
        self.total += loss.detach()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=LEARNING_RATE)


class Ready:
    """Ready batches, again and again."""

    def __init__(self, workload: Workload, steps: int) -> None:
        self._batches = make_batches(workload, "train")
        self._steps = steps

    def __iter__(self) -> Iterator[Batch]:
        return islice(cycle(self._batches), self._steps)

    def __len__(self) -> int:
        return self._steps


class Clock(lightning.Callback):
    """Takes the time of every epoch."""

    def __init__(self, found: Trained) -> None:
        self._found = found

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        self._began = now()
        module.total.zero_()

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        self._found.train_seconds.append(now() - self._began)
        self._found.losses.append(module.total.item() / self._found.steps)


def train(workload: Workload, steps: int, epochs: int, folder: Path) -> Trained:
    """Train."""
    module = Module(workload)
    data = Ready(workload, steps) if workload.feeding == "ready" else data_loader(workload)
    found = Trained(steps if workload.feeding == "ready" else BATCHES)
    trainer = lightning.Trainer(
        max_epochs=epochs * steps // found.steps,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[Clock(found)],
    )
    trainer.fit(module, data)
    found.weights = module.parts.state_dict()
    return found
