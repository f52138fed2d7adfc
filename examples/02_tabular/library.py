"""The training of config.yaml as a program, without YAML: ``python examples/02_tabular/library.py``."""

from __future__ import annotations

import torch
from tabular import Tabular, make_tasks

from emloop_mtl import MainLoop, Mixed, MultiTaskModel
from emloop_mtl.hooks import Evaluate, LRSchedule, ScoreTasks, ShowProgress, StopAfter, Warmup


def train(seed: int = 7, epochs: int = 40) -> dict[str, float]:
    """Train, and return the scores of the test rows by ``task/table/stream/metric``."""
    torch.manual_seed(seed)
    dataset = Tabular(seed=seed, streams={"train": {"scheduler": Mixed(fillup=True)}})
    model = MultiTaskModel(
        make_tasks(),
        optimizer={"class": "adamw", "lr": 0.002, "weight_decay": 1.0},
        update={"clip_norm": 1.0},
        device="cpu",
    )
    hooks = [
        ShowProgress(),
        Evaluate(["valid"]),
        ScoreTasks(),
        Warmup(percentage=0.1),
        LRSchedule("cosine_annealing"),
        StopAfter(epochs=epochs),
    ]
    MainLoop(model, dataset, hooks).run_training()
    return model.score({"test": dataset.test_stream()})


if __name__ == "__main__":
    for name, score in train().items():
        print(f"{name:50} {score:.4f}")
