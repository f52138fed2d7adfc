"""ignite: an engine around a function that takes a step; handlers for what surrounds it."""

from __future__ import annotations

from pathlib import Path

import torch
from ignite.engine import Engine, Events
from torch import Tensor
from torch.nn.functional import cross_entropy

from ..clock import now
from ..trained import Trained
from ..workloads import Batch, Workload, make_batches, make_modules
from . import LEARNING_RATE, data_loader


def train(workload: Workload, steps: int, epochs: int, folder: Path) -> Trained:
    """Train."""
    modules = make_modules(workload)
    trunk, head = modules["trunk"], modules["head_0"]
    optimizer = torch.optim.SGD(modules.parameters(), lr=LEARNING_RATE)
    found = Trained(steps)
    total = torch.zeros((), dtype=torch.float64)

    def step(engine: Engine, batch: Batch) -> Tensor:
        loss = cross_entropy(head(trunk(batch["x"])), batch["label_0"])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        value = loss.detach()
        total.add_(value)
        return value

    engine = Engine(step)
    began = 0.0

    @engine.on(Events.EPOCH_STARTED)
    def begin() -> None:
        nonlocal began
        began = now()
        total.zero_()

    @engine.on(Events.EPOCH_COMPLETED)
    def end() -> None:
        found.train_seconds.append(now() - began)
        found.losses.append(total.item() / steps)

    data = make_batches(workload, "train") if workload.feeding == "ready" else data_loader(workload)
    engine.run(data, max_epochs=epochs, epoch_length=steps)
    found.weights = modules.state_dict()
    return found
