"""accelerate: one's own loop, with model, optimizer and loader prepared by it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ..clock import now
from ..trained import Trained
from ..workloads import Batch, Workload, make_batches, make_modules
from . import LEARNING_RATE, data_loader


def train(workload: Workload, steps: int, epochs: int, folder: Path) -> Trained:
    """Train."""
    modules = make_modules(workload)
    network = nn.Sequential(modules["trunk"], modules["head_0"])
    accelerator = Accelerator(cpu=True)
    network, optimizer = accelerator.prepare(network, torch.optim.SGD(network.parameters(), lr=LEARNING_RATE))
    stream: Iterator[Batch]
    if workload.feeding == "ready":
        stream = cycle(make_batches(workload, "train"))
    else:
        loader = accelerator.prepare(data_loader(workload))
        stream = (batch for _ in cycle([None]) for batch in loader)
    found = Trained(steps)
    for _ in range(epochs):
        total: Tensor = torch.zeros((), dtype=torch.float64)
        began = now()
        for batch in islice(stream, steps):
            loss = cross_entropy(network(batch["x"]), batch["label_0"])
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            total += loss.detach()
        found.train_seconds.append(now() - began)
        found.losses.append(total.item() / steps)
    found.weights = modules.state_dict()
    return found
