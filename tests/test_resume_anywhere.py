"""Trainings of all sorts, broken off at any border and gone on with by new objects, end like those that were not."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, IterableDataset, Subset, get_worker_info

from emloop_mtl import (
    AbstractHook,
    BackboneHeadsModel,
    FileColumns,
    Head,
    JointLearning,
    MultiTaskDataset,
    schedulers,
)
from emloop_mtl.checkpoint import list_checkpoints, newest_checkpoint
from emloop_mtl.data import Batch, ColumnDataset, TaskLoader
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

TASKS = ("a", "b", "c")
WIDTH = 3


# ---------------------------------------------------------------------------------------------------------------- data


def row(index: int, drawn: bool) -> dict[str, Any]:
    """A row; its values depend on what the global generators give where it draws."""
    extra = random.random() + np.random.rand() + torch.rand(()).item() if drawn else 0.0
    x = torch.arange(WIDTH) / (index + 1.0) + extra
    return {"x": x, "y": index % 2, "id": index}


class Rows(Dataset[Any]):
    def __init__(self, size: int, drawn: bool) -> None:
        self.size, self.drawn = size, drawn

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Any:
        return row(index, self.drawn)


class Rare(Rows):
    """Draws for some rows only, and not for the first."""

    def __getitem__(self, index: int) -> Any:
        return row(index, drawn=index % 4 == 3)


class Stream(IterableDataset[Any]):
    def __init__(self, size: int, drawn: bool) -> None:
        self.size, self.drawn = size, drawn

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for index in range(first, self.size, step):
            yield row(index, self.drawn)


class Sized(Stream):
    def __len__(self) -> int:
        return self.size


def columns(size: int, ragged: bool) -> ColumnDataset:
    features, y = tensors(size)
    if ragged:
        features["words"] = [torch.arange(1 + index % 3) for index in range(size)]
    return ColumnDataset("columns", features, {"y": y})


def tensors(size: int) -> tuple[dict[str, Any], torch.Tensor]:
    rows = [row(index, drawn=False) for index in range(size)]
    features = {"x": torch.stack([each["x"] for each in rows]), "id": torch.arange(size)}
    return features, torch.tensor([each["y"] for each in rows])


def tokens(size: int) -> ColumnDataset:
    """Sequences whose tokens have a label each, every fifth of them none."""
    features, _ = tensors(size)
    words = [torch.arange(1 + index % 3) for index in range(size)]
    tags = [(each + index) % 2 for index, each in enumerate(words)]
    tags = [torch.where((each + index) % 5 == 0, -100, each) for index, each in enumerate(tags)]
    return ColumnDataset("tokens", {**features, "words": words}, {"tags": tags})


def from_file(size: int, folder: Path) -> FileColumns:
    """Columns that are mapped from a file, which stays the same from run to run."""
    file = folder / f"{size}.npz"
    if not file.exists():
        features, y = tensors(size)
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(file, y=y.numpy(), **{name: values.numpy() for name, values in features.items()})
    return FileColumns(file, labels=["y"])


def make_dataset(kind: str, size: int, folder: Path) -> Any:
    match kind:
        case "columns" | "ragged":
            return columns(size, kind == "ragged")
        case "tokens":
            return tokens(size)
        case "subset of tokens":
            return Subset(tokens(size + 2), range(1, size + 1))
        case "file":
            return from_file(size, folder)
        case "subset":
            return Subset(columns(size + 2, ragged=False), range(1, size + 1))
        case "rows" | "drawn rows":
            return Rows(size, kind != "rows")
        case "rare rows":
            return Rare(size, drawn=True)
        case "drawn subset":
            return Subset(Rows(size + 2, drawn=True), range(1, size + 1))
        case "iterable" | "drawn iterable":
            return Stream(size, kind != "iterable")
        case _:
            return Sized(size, drawn=True)


WITH_ROWS = ("columns", "ragged", "subset", "file", "rows", "drawn rows", "rare rows", "drawn subset")
OF_TOKENS = ("tokens", "subset of tokens")
ITERABLE = ("iterable", "drawn iterable", "sized iterable")


@dataclass(frozen=True)
class LoaderPlan:
    """A loader, and the tasks that its labels are of."""

    name: str
    split: str
    kind: str
    size: int
    options: dict[str, Any]
    tasks: tuple[str, ...]

    def make(self, num_workers: Any, folder: Path) -> TaskLoader:
        tasks = dict.fromkeys(self.tasks, "tags" if self.kind in OF_TOKENS else "y")
        if self.kind in ITERABLE and num_workers not in (0, 1):
            num_workers = 1  # with more, such a dataset is another one
        dataset = make_dataset(self.kind, self.size, folder)
        return TaskLoader(dataset, tasks, self.split, name=self.name, num_workers=num_workers, **self.options)


@dataclass(frozen=True)
class Plan:
    """A training."""

    seed: int
    style: str
    tagged: str | None
    loaders: list[LoaderPlan]
    scheduler: tuple[str, dict[str, Any]]
    hand_written: str | None
    epoch_size: Any
    update: dict[str, Any]
    optimizer: dict[str, Any]
    stop: dict[str, int]
    evaluated: list[str]
    schedule: bool
    stack_tasks: bool
    precision: str
    skip_zeroth_epoch: bool
    changes: list[tuple[int, str, str]]
    frozen: list[dict[str, Any]]
    norms: dict[str, Any] | None
    average: dict[str, Any] | None
    cleared: str | None


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


# --------------------------------------------------------------------------------------------------------------- plans

DRAWN: dict[str, dict[str, Any]] = {
    "Uniform": {},
    "Weighted": {},
    "Proportional": {},
    "Temperature": {"alpha": 0.5},
    "Annealed": {"passes": 2},
    "Dynamic": {},
}
"""Schedulers that draw, with what they must be given."""


def by_numbers(numbers: dict[str, float], names: list[str]) -> dict[str, float]:
    """Return weights of loaders that follow from all numbers of an epoch."""
    total = sum(number for number in numbers.values() if math.isfinite(number))
    return {name: 0.1 + (total * 10**index) % 1 for index, name in enumerate(names)}


def draw_changes(chance: random.Random) -> list[tuple[int, str, str]]:
    """Draw after which steps which tasks are changed, and how."""
    if chance.random() < 0.6:
        return []
    removed, updated = chance.sample(TASKS, 2)
    step = chance.randint(1, 6)
    changes = [(step, "remove", removed), (chance.randint(1, 8), "update", updated)]
    if chance.random() < 0.6:
        changes.append((step + chance.randint(1, 3), "add", removed))
    return sorted(changes)


def draw_average(chance: random.Random) -> dict[str, Any] | None:
    """Draw how the weights are averaged, if they are."""
    if chance.random() < 0.5:
        return None
    average: dict[str, Any] = {"decay": 0.9, "ramp": chance.random() < 0.5, "updates": chance.choice([1, 1, 2])}
    average |= {"runway": chance.choice([None, 3]), "evaluate": chance.random() < 0.8}
    return {**average, "save": not average["evaluate"] or chance.random() < 0.6}


def draw_frozen(chance: random.Random, trunk: str) -> list[dict[str, Any]]:
    """Draw what is frozen in which epochs."""
    if chance.random() < 0.6:
        return []
    mode = chance.random() < 0.5
    what: list[dict[str, Any]] = [
        {"modules": [trunk], "eval_mode": mode},
        {"parameters": [r"^[ab](_head)?\."]},
        {"parameters": ["bias"]},
    ]
    first = chance.randint(1, 2)
    when = [{"until_epoch": first}, {"from_epoch": first + 1}, {"from_epoch": first, "until_epoch": 2}]
    return [{**each, **chance.choice(when)} for each in chance.sample(what, chance.randint(1, 2))]


def draw_plan(chance: random.Random) -> Plan:
    loaders = []
    count = chance.randint(1, 3)
    style = chance.choice(["flow", "flow", "heads", "joint"])
    hand_written = chance.choice([None, None, None, None, "drawn", "calm", "listed"])
    has_tokens = hand_written is None and style != "joint" and chance.random() < 0.3
    has_tokens = has_tokens and count > 1  # or no loader would hold the label of the others, which is refused
    tagged = chance.choice(TASKS[:count]) if has_tokens else None
    # Three equal heads that every batch is of are run as one.
    are_together = hand_written is None and style != "joint" and tagged is None and chance.random() < 0.4
    scheduler = chance.choice(["Sequential", "RoundRobin", "Mixed", "Interleaved", "Interleaved", *DRAWN])
    options: dict[str, Any] = {"fillup": chance.random() < 0.4}
    if scheduler == "RoundRobin":
        options["shuffle"] = chance.random() < 0.4
    elif scheduler == "Interleaved":
        length: dict[str, Any] = chance.choice([{}, {"fillup": True}, {"batches_per_pass": 3}, {"samples_per_pass": 7}])
        options = {"batch_size": chance.randint(1, 3), "drop_last": chance.random() < 0.3, **length}
    elif scheduler in DRAWN:
        options = {**DRAWN[scheduler], "batches_per_pass": chance.choice([None, 5])}
    if scheduler == "Weighted":
        options["weights"] = {f"{task}_train": 1.0 + chance.random() for task in TASKS[:count]}
    if scheduler == "Dynamic":
        options["function"] = partial(by_numbers, names=[f"{task}_train" for task in TASKS[:count]])
    is_interleaved = scheduler == "Interleaved"
    is_limited = is_interleaved and any(name in options for name in ("batches_per_pass", "samples_per_pass"))
    takes_n_batches = scheduler != "Mixed" and not is_limited and not (is_interleaved and options["drop_last"])
    needs_length = bool(options.get("fillup")) if is_interleaved else scheduler in DRAWN or any(options.values())
    for task in TASKS[:count]:
        for split in ("train", "valid"):
            kind = chance.choice(OF_TOKENS if task == tagged else WITH_ROWS + ITERABLE)
            own: dict[str, Any] = {"batch_size": chance.randint(1, 4)}
            size = chance.randint(4, 9)
            if kind not in ITERABLE:
                own["shuffle"] = chance.choice([None, True, False])
            own["drop_last"] = chance.random() < 0.3
            if split == "train" and (takes_n_batches and chance.random() < 0.3):
                own["n_batches"] = chance.randint(1, 5)
            if split == "train" and needs_length and kind in ("iterable", "drawn iterable"):
                own["n_batches"] = chance.randint(1, 5) if takes_n_batches else None
                if not takes_n_batches:
                    kind = "sized iterable"
            if kind == "sized iterable":
                own["drop_last"] = False
            if kind == "rows":
                own["deterministic"] = chance.choice([True, None])
            loaders.append(LoaderPlan(f"{task}_{split}", split, kind, size, own, TASKS if are_together else (task,)))
    sizes: list[Any] = [None, None, chance.randint(1, 6), {"samples": chance.randint(2, 15)}]
    known = not any(each.split == "train" and each.kind in ("iterable", "drawn iterable") for each in loaders)
    if (hand_written is None and known) or hand_written == "listed":
        sizes.append({"passes": chance.choice([0.5, 1.5, 0.3])})
    update: dict[str, Any] = {"accumulate": chance.choice([1, 1, 2, 3])}
    if chance.random() < 0.3:
        update["clip_norm"] = 0.5
    optimizers: list[dict[str, Any]] = [{"class": name} for name in ("sgd", "adam", "adamw")]
    optimizers.append({"class": "sgd", "momentum": 0.9})
    return Plan(
        seed=chance.randint(0, 99),
        style=style,
        tagged=tagged,
        loaders=loaders,
        scheduler=(scheduler, options),
        hand_written=hand_written,
        epoch_size=chance.choice(sizes),
        update=update,
        optimizer={"lr": 0.05, **chance.choice(optimizers)},
        stop=chance.choice([{"epochs": 2}, {"epochs": 3}, {"steps": chance.randint(3, 10)}]),
        evaluated=chance.choice([[], ["valid"], ["valid"], ["valid", "again"]]),
        schedule=chance.random() < 0.3,
        stack_tasks=are_together or chance.random() < 0.5,
        precision=chance.choice(["fp32", "fp32", "bf16", "fp16"]),
        skip_zeroth_epoch=chance.random() < 0.3,
        changes=draw_changes(chance),
        frozen=draw_frozen(chance, "trunk" if style == "flow" else "backbone"),
        norms=chance.choice([None, None, {"tasks": True}, {"every": 2}]),
        average=draw_average(chance),
        cleared=chance.choice([None, None, "all_but_best", "all"]),
    )


# ------------------------------------------------------------------------------------------------------------- running


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


def differences(one: Any, other: Any, where: str = "") -> Iterator[str]:
    """Yield the places in which two results differ, bit for bit."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        if not torch.equal(one, other):
            yield where
    elif isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for key in one:
            yield from differences(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)) and len(one) == len(other):
        for index, pair in enumerate(zip(one, other, strict=True)):
            yield from differences(*pair, f"{where}[{index}]")
    elif one != other:
        yield f"{where}: {one!r:.300} and {other!r:.300}"


def check_case(seed: int, folder: Path, with_workers: bool) -> None:
    chance = random.Random(seed)
    plan = draw_plan(chance)
    whole = Run(folder / "whole").of(plan)
    expected = whole.result()
    moments = whole.kill.moments
    done = 0
    for attempt in range(chance.choice([2, 2, 3, 4])):
        last = done >= moments or attempt == 3
        run = Run(
            folder / "run",
            kill_at=None if last else chance.randint(1, moments - done),
            buffer=chance.choice([0, 0, 1, 3]),
            workers=random.Random(chance.random()) if with_workers else None,
            resume=attempt > 0,
            seed=attempt + 1,
        )
        try:
            run.of(plan)
        except KilledError:
            done += run.kill.moments
            continue
        break
    else:
        run = Run(folder / "run", resume=True, seed=99, workers=random.Random(seed) if with_workers else None).of(plan)
    assert list(differences(expected, run.result())) == [], plan


@pytest.mark.parametrize("seed", range(12))
def test_a_training_goes_on_from_any_border(seed: int, tmp_path: Path) -> None:
    check_case(seed, tmp_path, with_workers=False)


@pytest.mark.parametrize("seed", range(2))
def test_it_does_so_with_any_number_of_processes_that_read(seed: int, tmp_path: Path) -> None:
    check_case(seed, tmp_path, with_workers=True)


@pytest.mark.soak
@pytest.mark.parametrize("hundred", range(1, 21))
def test_many_trainings_go_on_from_any_border(hundred: int, tmp_path: Path) -> None:
    for seed in range(100 * hundred, 100 * hundred + 100):
        check_case(seed, tmp_path / str(seed), with_workers=seed % 20 == 0)
