"""Ensembles of runs in the working folder, and what their members say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from emloop_mtl import Batch, create_training, open_run
from emloop_mtl.config.yaml_text import write_yaml

from ..trained_runs import composed_config

RUNS = ["log/a", "log/b", "log/c"]


def build(folder: Path, models: list[str] | None, **options: Any) -> Any:
    (folder / "ensemble.yaml").write_text(write_yaml(composed_config("Ensemble", models, **options)))
    return create_training(folder / "ensemble.yaml")


def batches(training: Any) -> list[Batch]:
    return [batch.copy() for batch in training.dataset.valid_stream()]


def member_outputs(batch: Batch) -> list[dict[str, Any]]:
    return [open_run(run).run(batch.copy(), train=False) for run in RUNS]


def mean(values: list[torch.Tensor]) -> torch.Tensor:
    return (values[0] + values[1] + values[2]) / 3


def vote(values: list[torch.Tensor]) -> torch.Tensor:
    """Count votes row by row; of equally frequent classes the lowest wins."""
    winners = []
    for votes in zip(*(value.tolist() for value in values), strict=True):
        most = max(votes.count(each) for each in votes)
        winners.append(min(each for each in votes if votes.count(each) == most))
    return torch.tensor(winners)
