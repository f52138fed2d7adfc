"""Emmental: tasks with a flow, data loaders per task, and its learner with its default settings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import emmental
from emmental.data import EmmentalDataLoader, EmmentalDataset
from emmental.learner import EmmentalLearner
from emmental.model import EmmentalModel
from emmental.task import Action, EmmentalTask
from torch.nn.functional import cross_entropy, softmax

from ..clock import now
from ..trained import Trained
from ..workloads import (
    BATCH_SIZE,
    BATCHES,
    Workload,
    as_columns,
    head_name,
    label_name,
    make_batches,
    make_modules,
    task_name,
)
from . import LEARNING_RATE


class Loader(EmmentalDataLoader):  # type: ignore[misc]
    """A loader that notes when it is walked anew; of ready batches, if some are given."""

    marks: list[float]
    ready: list[tuple[dict[str, Any], dict[str, Any]]] | None = None

    def __iter__(self) -> Iterator[Any]:
        self.marks.append(now())
        return super().__iter__() if self.ready is None else iter(self.ready)


def make_loaders(workload: Workload, marks: list[float]) -> list[Loader]:
    """Return a loader per task where they take turns, else one; only the first notes its walks."""
    batches = make_batches(workload, "train")
    loaders = []
    groups = [[task] for task in range(workload.tasks)] if workload.feeding == "turns" else [range(workload.tasks)]
    for number, group in enumerate(groups):
        own = batches[number :: len(groups)]
        columns = as_columns(own)
        rows = [str(row) for row in range(len(columns["x"]))]
        labels = {label_name(task): columns[label_name(task)] for task in group}
        data = EmmentalDataset(f"data_{number}", {"uid": rows, "x": list(columns["x"])}, labels, uid="uid")
        tasks = {task_name(task): label_name(task) for task in group}
        loader = Loader(tasks, data, "train", batch_size=BATCH_SIZE, shuffle=workload.feeding == "columns")
        if workload.feeding != "columns":
            uids = [rows[at : at + BATCH_SIZE] for at in range(0, len(rows), BATCH_SIZE)]
            loader.ready = [
                ({"uid": uid, "x": batch["x"]}, {name: batch[name] for name in labels})
                for uid, batch in zip(uids, own, strict=True)
            ]
        loader.marks = marks if number == 0 else []
        loaders.append(loader)
    return loaders


def make_tasks(workload: Workload, modules: Any) -> list[EmmentalTask]:
    """Return the tasks."""
    return [
        EmmentalTask(
            name=task_name(task),
            module_pool=type(modules)({"trunk": modules["trunk"], head_name(task): modules[head_name(task)]}),
            task_flow=[
                Action("features", "trunk", [("_input_", "x")]),
                Action(f"logits_{task}", head_name(task), [("features", 0)]),
            ],
            loss_func=partial(_loss, f"logits_{task}"),
            output_func=partial(_output, f"logits_{task}"),
        )
        for task in range(workload.tasks)
    ]


def _loss(name: str, outputs: dict[str, Any], label: Any) -> Any:
    return cross_entropy(outputs[name], label)


def _output(name: str, outputs: dict[str, Any]) -> Any:
    return softmax(outputs[name], dim=1)


def train(workload: Workload, steps: int, epochs: int, folder: Path) -> Trained:
    """Train; an epoch of ours is as many of Emmental's passes as make its steps."""
    passes = max(1, steps // BATCHES)
    emmental.init(str(folder))
    config: dict[str, Any] = defaultdict(dict)
    config["model_config"] = {"device": -1, "dataparallel": False}
    config["learner_config"] = {
        "n_epochs": epochs * passes,
        "optimizer_config": {"optimizer": "sgd", "lr": LEARNING_RATE},
    }
    emmental.Meta.update_config(config)
    modules = make_modules(workload)
    model = EmmentalModel("model", tasks=make_tasks(workload, modules))
    marks: list[float] = []
    EmmentalLearner().learn(model, make_loaders(workload, marks))
    marks = [*marks, now()]
    found = Trained(passes * BATCHES)
    found.train_seconds = [end - begin for begin, end in zip(marks[:-1:passes], marks[passes::passes], strict=False)]
    found.weights = modules.state_dict()
    return found
