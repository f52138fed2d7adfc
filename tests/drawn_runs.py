"""Runs of the trainings that are drawn, which can be broken off at any border."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from emloop_mtl import AbstractHook, BackboneHeadsModel, Head, JointLearning, MultiTaskDataset, schedulers
from emloop_mtl.checkpoint import list_checkpoints, newest_checkpoint
from emloop_mtl.data import Batch, TaskLoader
from emloop_mtl.hooks import (
    AverageWeights,
    ClearCheckpoints,
    ComputeStats,
    Evaluate,
    Freeze,
    GradientNorms,
    LRSchedule,
    RestoreBest,
    SaveBest,
    ScoreTasks,
    StopAfter,
    StopOnNaN,
    Warmup,
    WriteCSV,
    WriteJSON,
)
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.tasks import Action, Task
from emloop_mtl.types import EpochData
from emloop_mtl.utils.checkpoint_names import tag_of
from emloop_mtl.utils.random import get_random_state, seed_everything

from .drawn_data import TASKS, WIDTH, row
from .drawn_plans import Plan


class Data(MultiTaskDataset):
    """The loaders of a plan, or streams written by hand."""

    def __init__(self, plan: Plan, workers: random.Random | None, folder: Path) -> None:
        name, options = plan.scheduler
        train = {"scheduler": getattr(schedulers, name)(**options)}
        super().__init__(plan.seed, {"train": train, "again": {"splits": ["train"], **train}})
        self._plan = plan
        self._workers = workers
        self._folder = folder
        if plan.hand_written is not None:
            self.train_stream = getattr(self, "_" + plan.hand_written)
            self.deterministic = plan.hand_written != "drawn"

    def loaders(self) -> list[TaskLoader]:
        counts = [0] if self._workers is None else [0, 1, 2, "auto"]
        chance = self._workers or random.Random(0)
        return [loader.make(chance.choice(counts), self._folder) for loader in self._plan.loaders]

    def _drawn(self) -> Iterator[Any]:
        count = random.randint(1, 5)
        for number in range(count):
            yield self._batch(number, drawn=True, ends_step=number != 1 or count == 2)

    def _calm(self) -> Iterator[Any]:
        for number in range(4):
            yield self._batch(number, drawn=False, ends_step=number != 1)

    def _listed(self) -> list[Any]:
        return [self._batch(number, drawn=False, ends_step=number != 1) for number in range(4)]

    def _batch(self, number: int, drawn: bool, ends_step: bool = True) -> Batch:
        # Empty batches are left out, among them the first of a pass, and one that ends a step.
        rows = [row(index, drawn) for index in range((0, 2, 0, 1, 3)[number])]
        x = torch.stack([each["x"] for each in rows]) if rows else torch.zeros(0, WIDTH)
        values = {"x": x, "y": torch.tensor([each["y"] for each in rows], dtype=torch.int64)}
        task = TASKS[number % 2]
        ids = [100 * number + index for index in range(len(rows))]
        return Batch({**values, "id": ids}, tasks={task: "y"}, data_name=task, ends_step=ends_step)


class Trace(AbstractHook):
    """Remembers every batch, every epoch's numbers, and what the global generators give at each of them."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def requires(self) -> Collection[str]:
        return ()

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        drawn = random.random(), np.random.rand(), torch.rand(()).item()
        ids = torch.as_tensor(batch_data["id"]).tolist()
        facts = batch_data.data_name, batch_data.number, batch_data.ends_step, batch_data.size
        self.seen.append((stream_name, ids, *facts, tuple(self.main_loop.position), *drawn))

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        numbers = [(s, v, str(n)) for s, variables in epoch_data.items() for v, n in variables.items()]
        self.seen.append((epoch_id, tuple(self.main_loop.position), numbers))

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seen = list(state["seen"])


class Change(AbstractHook):
    """Changes the tasks of the model after some steps, and again where a training is gone on with."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self._plan = plan
        self._done = 0

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        due = sum(step <= self.main_loop.position.step for step, _, _ in self._plan.changes)
        self._change(due)

    def _change(self, due: int) -> None:
        model = self.main_loop.model
        assert isinstance(model, MultiTaskModel)
        for number in range(self._done, due):
            _, how, name = self._plan.changes[number]
            with torch.random.fork_rng(devices=()):
                torch.manual_seed(number)
                if how == "remove":
                    model.remove_task(name)
                elif isinstance(model, BackboneHeadsModel):
                    change = model.update_head if how == "update" else model.add_head
                    change(name, make_head(name, self._plan))
                else:
                    change = model.update_task if how == "update" else model.add_tasks
                    change(make_task(name, self._plan, make_modules(name, self._plan)))
        self._done = max(self._done, due)

    def state_dict(self) -> dict[str, Any]:
        return {"done": self._done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._change(state["done"])


class Kill(AbstractHook):
    """Asks for a checkpoint at a moment, and fails at the first moment after it is written."""

    def __init__(self, at: int | None) -> None:
        super().__init__()
        self._at = at
        self._is_saved = False
        self.moments = 0

    def requires(self) -> Collection[str]:
        return ()

    def provides(self) -> Collection[str]:
        return ()

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        self._count()

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        self._count()

    def _count(self) -> None:
        if self._is_saved:
            raise KilledError
        self.moments += 1
        if self.moments == self._at:
            self.main_loop.request_save("latest")
            self.main_loop.when_saved(self._saved)

    def _saved(self) -> None:
        self._is_saved = True


class KilledError(Exception):
    """The end of a process that is killed."""


@dataclass
class Run:
    """How a training is run, which must not change what comes out."""

    folder: Path
    kill_at: int | None = None
    buffer: int = 0
    workers: random.Random | None = None
    resume: bool = False
    seed: int = 1
    loop: MainLoop = field(init=False)
    trace: Trace = field(init=False)
    kill: Kill = field(init=False)
    average: AverageWeights | None = field(init=False)

    def of(self, plan: Plan) -> Run:
        """Run it; raises ``KilledError`` where it is."""
        seed_everything(self.seed)
        self.trace, self.kill = Trace(), Kill(self.kill_at)
        hooks: list[AbstractHook] = [Evaluate(streams=plan.evaluated)] if plan.evaluated else []
        hooks += [] if plan.norms is None else [GradientNorms(**plan.norms)]
        hooks += [ScoreTasks(), ComputeStats(["loss"]), WriteJSON(steps=2), WriteCSV(), StopOnNaN()]
        if plan.schedule and "steps" in plan.stop:
            hooks += [Warmup(steps=2), LRSchedule("linear")]
        self.average = None if plan.average is None else AverageWeights(**plan.average)
        hooks += [] if self.average is None else [self.average]
        hooks += [Freeze(**arguments) for arguments in plan.frozen]
        if plan.cleared is not None and not plan.changes:  # the best weights may be those of other tasks
            hooks += [SaveBest(plan.evaluated[0] if plan.evaluated else "train"), RestoreBest()]
            hooks += [ClearCheckpoints(plan.cleared)]
        if plan.changes:
            hooks.append(Change(plan))
        self.loop = MainLoop(
            make_model(plan),
            Data(plan, self.workers, self.folder.parent / "data"),
            [*hooks, self.trace, self.kill, StopAfter(**plan.stop)],
            buffer=self.buffer,
            fixed_epoch_size=plan.epoch_size,
            skip_zeroth_epoch=plan.skip_zeroth_epoch,
            on_unused_sources="ignore",
            on_empty_batch="ignore",
            on_empty_stream="ignore",
            output_dir=self.folder,
            seed=plan.seed,
        )
        if self.resume:
            self.loop.restore(newest_checkpoint(self.folder / "checkpoints", "latest"))
        self.loop.run_training()
        return self

    def result(self) -> dict[str, Any]:
        model = self.loop.model
        ends = {"end": self.loop.end, "position": tuple(self.loop.position), "streams": self.loop._streams.state_dict()}
        return {
            "seen": self.trace.seen,
            "weights": model.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": model.training_state_dict(),
            "random": get_random_state(),
            "kept": {tag_of(path) for path in list_checkpoints(self.folder / "checkpoints")} - {"latest"},
            "records": {name: (self.folder / name).read_text() for name in ("metrics.jsonl", "training.csv")},
            **ends,
        }


class Backbone(nn.Module):
    """The trunk, with a name for what it returns."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = make_trunk()

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"input": self.layers(x)}


class Tagger(nn.Module):
    """A head that reads words alone."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Embedding(4, 4), nn.Linear(4, 2))

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.layers(words)
        return found


def make_trunk() -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH, 4), nn.Dropout(0.3), nn.Tanh())


def make_modules(name: str, plan: Plan) -> dict[str, nn.Module]:
    """Make what a task has for itself."""
    own: dict[str, nn.Module] = {f"{name}_words": nn.Embedding(4, 4)} if name == plan.tagged else {}
    return {**own, f"{name}_head": nn.Linear(4, 2)}


def settings_of(name: str, plan: Plan) -> dict[str, Any]:
    settings: dict[str, Any] = {"loss": "cross_entropy", "metrics": ["accuracy"]}
    if name == plan.tagged:
        return {**settings, "label": "tags", "tokens": "words", "missing_label": -100}
    return {**settings, "label": "y"}


def make_task(name: str, plan: Plan, modules: dict[str, nn.Module]) -> Task:
    source, trunk = ("words", f"{name}_words") if name == plan.tagged else ("x", "trunk")
    flow = [Action(f"{trunk}_out", trunk, source), Action(f"{name}_out", f"{name}_head", f"{trunk}_out")]
    return Task(name, modules, flow, **settings_of(name, plan))


def make_head(name: str, plan: Plan) -> Head:
    return Head(Tagger() if name == plan.tagged else nn.Linear(4, 2), **settings_of(name, plan))


def make_model(plan: Plan) -> MultiTaskModel:
    settings: dict[str, Any] = {
        "optimizer": dict(plan.optimizer),
        "update": dict(plan.update),
        "device": "cpu",
        "precision": plan.precision,
    }
    if plan.style == "flow":
        tasks = [make_task(name, plan, make_modules(name, plan)) for name in TASKS]
        return MultiTaskModel(tasks, {"trunk": make_trunk()}, stack_tasks=plan.stack_tasks, **settings)
    heads = {name: make_head(name, plan) for name in TASKS}
    if plan.style == "joint":
        return JointLearning(Backbone(), heads, **settings)
    return BackboneHeadsModel(Backbone(), heads, stack_tasks=plan.stack_tasks, **settings)
