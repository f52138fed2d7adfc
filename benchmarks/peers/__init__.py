"""Other libraries, each used as it is meant to be, on the workloads that are natural for it.

A file has ``train``, which trains by SGD and returns the times and the weights. Only training is measured: nothing is
evaluated, and progress is shown as the library does by default, into nowhere.
"""

from __future__ import annotations

import torch
from torch.utils.data import DataLoader, TensorDataset

from ..workloads import BATCH_SIZE, OPTIMIZERS, Workload, as_columns, make_batches

PEERS = {
    "accelerate": "accelerate",
    "emloop": "emloop",
    "emmental": "emmental",
    "ignite": "pytorch-ignite",
    "lightning": "lightning",
}
"""What is measured: the file here, which is called as the package that it imports, and what pip calls that."""

WORKLOADS = {
    "accelerate": ("A", "A2"),
    "emloop": ("A", "A2"),
    "emmental": ("A", "A2", "B", "C 4", "C 16", "C 64"),
    "ignite": ("A", "A2"),
    "lightning": ("A", "A2"),
}
"""The workloads that are natural for each."""

LEARNING_RATE: float = OPTIMIZERS["sgd"]["lr"]


def data_loader(workload: Workload) -> DataLoader[tuple[torch.Tensor, ...]]:
    """Return the rows of the batches, shuffled, as mappings."""
    columns = as_columns(make_batches(workload, "train"))
    rows = TensorDataset(columns["x"], columns["label_0"])

    def collate(samples: list[tuple[torch.Tensor, ...]]) -> dict[str, torch.Tensor]:
        x, label = torch.utils.data.default_collate(samples)
        return {"x": x, "label_0": label}

    return DataLoader(rows, batch_size=BATCH_SIZE, shuffle=True, collate_fn=collate)
