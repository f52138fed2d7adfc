"""The same work through the engine: tasks with a flow, the main loop, and the hooks that a training usually has."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from emloop_mtl import (
    AbstractDataset,
    AbstractHook,
    Action,
    ColumnDataset,
    MainLoop,
    Mixed,
    MultiTaskDataset,
    MultiTaskModel,
    RoundRobin,
    Task,
    TaskLoader,
)
from emloop_mtl.cli.reporting import logging_to_file
from emloop_mtl.hooks import (
    ComputeStats,
    Evaluate,
    LogVariables,
    SaveLatest,
    ScoreTasks,
    ShowProgress,
    StopAfter,
    WriteJSON,
    WriteTensorBoard,
)

from .clock import now
from .trained import Trained
from .workloads import (
    BATCH_SIZE,
    OPTIMIZERS,
    Batch,
    Workload,
    as_columns,
    head_name,
    label_name,
    make_batches,
    make_modules,
    task_name,
)


class Ready(AbstractDataset):
    """Batches that carry all tasks."""

    def __init__(self, workload: Workload) -> None:
        self._train, self._valid = make_batches(workload, "train"), make_batches(workload, "valid")

    def train_stream(self) -> list[Batch]:
        return self._train

    def valid_stream(self) -> list[Batch]:
        return self._valid


class Columns(MultiTaskDataset):
    """The rows of the batches as columns; those of ``train`` are shuffled."""

    def __init__(self, workload: Workload) -> None:
        super().__init__(seed=3)
        self._workload = workload

    def loaders(self) -> list[TaskLoader]:
        return [self._loader(split) for split in ("train", "valid")]

    def _loader(self, split: str) -> TaskLoader:
        columns = as_columns(make_batches(self._workload, split))
        data = ColumnDataset("data", {"x": columns["x"]}, {"label_0": columns["label_0"]})
        return TaskLoader(data, {"task_0": "label_0"}, split, batch_size=BATCH_SIZE)


class ReadyLoader:
    """Ready batches as a loader takes them."""

    def __init__(self, batches: list[Batch]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[Batch]:
        return iter(self._batches)

    def __len__(self) -> int:
        return len(self._batches)


class Scheduled(MultiTaskDataset):
    """A loader of ready batches per task, in turn or jointly."""

    def __init__(self, workload: Workload) -> None:
        scheduler = Mixed() if workload.feeding == "joint" else RoundRobin()
        super().__init__(streams={"train": {"scheduler": scheduler}})
        self._workload = workload

    def loaders(self) -> list[TaskLoader]:
        return [self._loader(split, task) for split in ("train", "valid") for task in range(self._workload.tasks)]

    def _loader(self, split: str, task: int) -> TaskLoader:
        batches = make_batches(self._workload, split)[task :: self._workload.tasks]
        tasks = {task_name(task): label_name(task)}
        # Reading a list draws no random numbers.
        return TaskLoader(ReadyLoader(batches), tasks, split, name=f"data_{task}", batch_size=None, deterministic=True)


class ClockStart(AbstractHook):
    """The first of the hooks, notes when an epoch begins."""

    began = 0.0

    def before_epoch(self, epoch_id: int, train_streams: list[str], eval_streams: list[str]) -> None:
        self.began = now()


class TimedLoop(MainLoop):
    """Notes when the last hook has seen the last batch of the training.

    A hook of one's own could do so, but of one that acts after batches the engine expects that it changes the model.
    """

    trained = 0.0

    def _run_stream(self, stream: Any, train: bool, resumed: bool = False) -> None:
        super()._run_stream(stream, train, resumed)
        if train:
            self.trained = now()


class ClockEnd(AbstractHook):
    """The last of the hooks, notes how long the training and the whole epoch have taken."""

    def __init__(self, start: ClockStart, found: Trained) -> None:
        super().__init__()
        self._start = start
        self._found = found

    def after_epoch(self, epoch_id: int, epoch_data: dict[str, dict[str, Any]]) -> None:
        assert isinstance(self.main_loop, TimedLoop)
        self._found.train_seconds.append(self.main_loop.trained - self._start.began)
        self._found.losses.append(epoch_data["train"]["loss"]["mean"])
        for name, value in epoch_data["valid"].items():
            task, _, rest = name.partition("/")
            if task.startswith("task_") and rest.endswith(("accuracy", "loss")):
                self._found.scores[f"{task}/{rest.rpartition('/')[2]}"] = value
        self.main_loop.when_saved(self._note_end)

    def _note_end(self) -> None:
        self._found.epoch_seconds.append(now() - self._start.began)


def make_tasks(workload: Workload, more_tasks: int = 0) -> list[Task]:
    modules = make_modules(workload, more_tasks)
    return [
        Task(
            task_name(index),
            modules={"trunk": modules["trunk"], head_name(index): modules[head_name(index)]},
            flow=[Action("features", "trunk", "x"), Action(f"logits_{index}", head_name(index), "features")],
            label=label_name(index),
            loss="cross_entropy",
            metrics=["accuracy"],
        )
        for index in range(workload.tasks + more_tasks)
    ]


def make_dataset(workload: Workload) -> AbstractDataset:
    return {"ready": Ready, "columns": Columns}.get(workload.feeding, Scheduled)(workload)


def train(
    workload: Workload,
    optimizer_name: str,
    steps: int,
    epochs: int,
    folder: Path,
    more_hooks: Sequence[AbstractHook] = (),
    more_tasks: int = 0,
) -> Trained:
    """Train, with all the hooks that a training usually has, into ``folder``.

    :param more_hooks: hooks to add
    :param more_tasks: tasks that no batch carries
    """
    torch.set_num_threads(1)
    found = Trained(steps)
    model = MultiTaskModel(
        make_tasks(workload, more_tasks),
        optimizer={"class": optimizer_name, **OPTIMIZERS[optimizer_name]},
        device="cpu",
    )
    start = ClockStart()
    hooks = [
        start,
        Evaluate(["valid"]),
        ScoreTasks(),
        ComputeStats(["loss"]),
        LogVariables(),
        ShowProgress(),
        WriteJSON(output_dir=folder),
        WriteTensorBoard(output_dir=folder),
        SaveLatest(),
        StopAfter(epochs=epochs),
        *more_hooks,
        ClockEnd(start, found),
    ]
    with logging_as_usual(folder):
        loop = TimedLoop(
            model,
            make_dataset(workload),
            hooks,
            fixed_epoch_size=steps,
            skip_zeroth_epoch=True,
            output_dir=folder,
        )
        loop.run_training()
    found.weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
    return found


def train_order(workload: Workload, steps: int) -> Iterable[Batch]:
    """Return the batches that the engine trains on, in its order."""
    dataset, done = make_dataset(workload), 0
    loop = MainLoop(MultiTaskModel(make_tasks(workload), device="cpu"), dataset, fixed_epoch_size=steps)
    for batch in islice(loop.get_stream("train"), steps):
        done += 1
        yield dict(batch)
    assert done == steps


@contextmanager
def logging_as_usual(folder: Path) -> Iterator[None]:
    """Log into the run's folder as the command line does; the terminal is not there."""
    root = logging.getLogger()
    level = root.level
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stderr(nowhere):
        root.setLevel(logging.INFO)
        try:
            with logging_to_file(folder / "train.log"):
                yield
        finally:
            root.setLevel(level)
