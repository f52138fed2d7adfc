"""The learning rate of every step, as Emmental 0.1.1 used it, through the real model, main loop and hooks.

``lr.json`` holds the rates and momentums of 110 trainings; its ``about`` says what the fields mean. A step of ours is a
batch of theirs, and a pass an epoch. Their ``int(warmup_steps)`` is written as the whole number that it comes to. Rates
are compared where the parameters are updated: with accumulation, nobody reads those in between.

Every training must follow the rule of this engine, which is stated here a second time with torch's own schedulers; and
it must have Emmental's numbers unless ``DIFFERENCES`` has a reason why not.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from emloop_mtl.abstract_hook import AbstractHook, TrainingTerminated
from emloop_mtl.checkpoint import newest_checkpoint
from emloop_mtl.data.batch import Batch
from emloop_mtl.data.column_dataset import ColumnDataset
from emloop_mtl.data.multi_task_dataset import MultiTaskDataset
from emloop_mtl.data.task_loader import TaskLoader
from emloop_mtl.errors import ConfigError
from emloop_mtl.hooks import ComputeStats, LRSchedule, StopAfter, Warmup
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.optim.learning_rate import LearningRate
from emloop_mtl.tasks.task import Task
from emloop_mtl.types import EpochData

VECTORS = json.loads(Path(__file__).with_name("lr.json").read_text(encoding="utf-8"))
ERRORS = [case for case in VECTORS["cases"] if "error" in case]
CASES = [case for case in VECTORS["cases"] if "error" not in case]
PASS = 8

DIFFERENCES = {
    "*/*resume*": "Emmental forgets its warm-up when it resumes: the rate begins at 0 again and may stay there; and "
    "without skip_learned_data a fresh pass begins in mid-run, which has no counterpart here",
    "linear/*warmup*": "Emmental's first batch is trained with the full rate, although the warm-up begins at 0",
    "cyclic/*warmup*": "Emmental's warm-up leads to the optimizer's rate and jumps from there to base_lr, and its "
    "first batch is trained with the full rate; here it leads to where the schedule begins",
    "one_cycle/*warmup*": "as for cyclic; and the cycle of T steps begins after W of them, so that it is cut off",
    "cosine_annealing/*warmup*": "Emmental's half wave of T steps begins after W of them, so that it is cut off",
    "linear/unit_epoch": "Emmental counts the length of the schedule in batches where it advances by epochs",
    "cosine_annealing/unit_epoch*": "the same",
    "one_cycle/unit_epoch*": "the same",
    "one_cycle/freq_2": "the same: it advances at every second batch, and its length counts them all",
    "cyclic/min_lr_0.04": "Emmental holds min_lr from the second batch on, and this schedule begins below it",
    "one_cycle/min_lr_0.04": "the same",
    "*/two_groups_min_lr": "Emmental holds min_lr for the first parameter group only",
    "plateau/*": "Emmental feeds the last number again and again, so that its patience counts batches",
}
"""Names of cases -> why their rates are not Emmental's."""

ALIKE_ALL_THE_SAME = {
    "linear/accumulation_3_warmup_5": "nothing is updated after the first batch, the one that differs",
    "plateau/unit_epoch_freq_2": "by the epoch Emmental, too, judges a number once",
    "plateau/n_steps_21_warmup_1_epoch_unit_epoch": "the same",
}
"""Names of cases that a pattern above takes in although their rates are Emmental's -> why."""

REL = 1e-12
"""Emmental's schedules multiply the rate of the step before: up to 32 roundings of 1e-16 add up."""


def difference(name: str) -> str | None:
    if name in ALIKE_ALL_THE_SAME:
        return None
    return next((reason for pattern, reason in DIFFERENCES.items() if fnmatchcase(name, pattern)), None)


class Used(NamedTuple):
    """What the optimizer was told for the update at the end of a step."""

    rates: list[float]
    momentum: float


class Settings(NamedTuple):
    """A case in the words of this engine."""

    total: int
    warm_up: int
    begin: int
    accumulate: int
    schedule: str
    options: dict[str, Any]
    unit: str
    frequency: int
    min_lr: float

    @property
    def period(self) -> int:
        return self.frequency * (PASS if self.unit == "pass" else 1)

    def updates(self) -> list[int]:
        """The steps that end with an update."""
        return [s for s in range(self.total) if (s + 1) % self.accumulate == 0 or s == self.total - 1]

    def counts(self) -> list[int]:
        """How many due moments there were since the warm-up, for every step of the run."""
        counts = [0]
        for step in range(self.total):
            is_due = step >= self.warm_up and (step + 1) % self.period == 0
            counts.append(counts[-1] + is_due)
        return counts[:-1]


def settings_of(case: Mapping[str, Any]) -> Settings:
    learner = case["overrides"]["learner_config"]
    rate = learner["lr_scheduler_config"]
    name = rate["lr_scheduler"]
    options = dict(rate.get(f"{name}_config", {}))
    options.pop("metric", None)  # the mean loss of the training epoch, the only one that is used
    return Settings(
        total=case["total_steps"],
        warm_up=case["warmup_steps"],
        begin=learner.get("epochs_learned", 0) * PASS + learner.get("steps_learned", 0),
        accumulate=learner["optimizer_config"].get("gradient_accumulation_steps", 1),
        schedule=name or "none",
        options=options,
        unit="pass" if rate.get("lr_scheduler_step_unit") == "epoch" else "step",
        frequency=rate.get("lr_scheduler_step_freq", 1),
        min_lr=rate.get("min_lr", 0.0),
    )


# ---------------------------------------------------------------------------------------------------- the real thing


class TwoTasks(MultiTaskDataset):
    """Five batches of one task, then three of the other."""

    def loaders(self) -> list[TaskLoader]:
        made = []
        for name, data in VECTORS["data"].items():
            rows = ColumnDataset(
                f"data_{name}", {f"x_{name}": torch.tensor(data["x"])}, {name: torch.tensor(data["y"])}
            )
            made.append(TaskLoader(rows, {name: name}, "train", batch_size=10, shuffle=False))
        return made


class NoteRates(AbstractHook):
    """Note what the optimizer was told in every step, the number that a plateau is of, and save after some step."""

    def __init__(self, cut_after: int | None = None) -> None:
        super().__init__()
        self._cut_after = cut_after
        self.used: dict[int, Used] = {}
        self.numbers: list[tuple[int, float]] = []

    def requires(self) -> tuple[str, ...]:
        return ()

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        step = self.main_loop.position.step
        groups = self.main_loop.model.optimizer.param_groups  # type: ignore[attr-defined]
        self.used[step - 1] = Used([group["lr"] for group in groups], groups[0].get("momentum", 0.0))
        if step == self._cut_after:
            self.main_loop.request_save("cut")
            raise TrainingTerminated("cut")

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        value = epoch_data["train"]["loss"]
        assert isinstance(value, Mapping)
        self.numbers.append((self.main_loop.position.step, value["mean"]))


def make_model(case: Mapping[str, Any]) -> MultiTaskModel:
    modules: dict[str, nn.Module] = {"shared": nn.Linear(2, 8)}
    tasks = []
    for name in VECTORS["data"]:
        modules[f"{name}_head"] = nn.Linear(8, 2)
        flow = [
            {"name": f"{name}_features", "module": "shared", "inputs": f"x_{name}"},
            {"name": f"{name}_out", "module": f"{name}_head", "inputs": f"{name}_features"},
        ]
        tasks.append(Task(name, flow=flow, label=name, loss="cross_entropy"))
    with torch.no_grad():
        for path, weights in VECTORS["initial_weights"].items():
            module, _, parameter = path.partition(".")
            getattr(modules[module], parameter).copy_(torch.tensor(weights))
    theirs = case["overrides"]["learner_config"]["optimizer_config"]
    optimizer = {"class": theirs["optimizer"], "lr": theirs["lr"]}
    if theirs["optimizer"] == "sgd":
        optimizer |= theirs["sgd_config"]
    if case["two_groups"]:
        optimizer["parameters"] = two_groups
    update = {"accumulate": settings_of(case).accumulate}
    return MultiTaskModel(tasks, modules, optimizer=optimizer, update=update, device="cpu")


def two_groups(network: nn.Module) -> list[dict[str, Any]]:
    named = dict(network.named_parameters())
    shared = [parameter for name, parameter in named.items() if "shared" in name]
    heads = [parameter for name, parameter in named.items() if "head" in name]
    return [{"params": shared, "lr": 0.1}, {"params": heads, "lr": 0.02}]


def hooks_of(case: Mapping[str, Any]) -> Iterator[AbstractHook]:
    """The hooks that say what the case says."""
    ours = settings_of(case)
    theirs = case["overrides"]["learner_config"]["lr_scheduler_config"]
    yield ComputeStats(["loss"])
    if "warmup_percentage" in theirs:
        yield Warmup(percentage=theirs["warmup_percentage"])
    elif theirs.get("warmup_unit") == "epoch":
        yield Warmup(passes=theirs["warmup_steps"])
    elif "warmup_steps" in theirs:
        yield Warmup(steps=int(theirs["warmup_steps"]))
    schedule = {"class": ours.schedule, **ours.options}
    if ours.schedule == "plateau":
        watched = {"stream": "train", "variable": "loss", "mode": "min"}
        yield LRSchedule(schedule, ours.min_lr, frequency=ours.frequency, **watched)
    else:
        yield LRSchedule(schedule, ours.min_lr, unit=ours.unit, frequency=ours.frequency)
    n_steps = case["overrides"]["learner_config"].get("n_steps")
    yield StopAfter(epochs=4) if n_steps is None else StopAfter(steps=n_steps)


@cache
def run(index: int, folder: Path) -> NoteRates:
    """Train, in two parts where Emmental was resumed, and return what was noted."""
    case = CASES[index]
    begin = settings_of(case).begin
    note = NoteRates(begin or None)
    arguments: dict[str, Any] = {"skip_zeroth_epoch": True, "output_dir": folder}
    MainLoop(make_model(case), TwoTasks(), [*hooks_of(case), note], **arguments).run_training()
    if begin:
        first, note = note, NoteRates()
        loop = MainLoop(make_model(case), TwoTasks(), [*hooks_of(case), note], **arguments)
        loop.restore(newest_checkpoint(folder / "checkpoints"))
        loop.run_training()
        note.used, note.numbers = first.used | note.used, first.numbers + note.numbers
    return note


# ----------------------------------------------------------------------------------------------- the rule once more


def torchs_schedule(ours: Settings, horizon: int, optimizer: torch.optim.Optimizer) -> lr_scheduler.LRScheduler:
    """Torch's scheduler of the same name, with a length of ``horizon`` due steps."""
    options = ours.options
    match ours.schedule:
        case "none":
            return lr_scheduler.LambdaLR(optimizer, lambda x: 1)
        case "linear":
            return lr_scheduler.LambdaLR(optimizer, lambda x: 1 - x / horizon)
        case "exponential":
            return lr_scheduler.ExponentialLR(optimizer, **{"gamma": 0.9, **options})
        case "step":
            return lr_scheduler.StepLR(optimizer, **options)
        case "multi_step":
            return lr_scheduler.MultiStepLR(optimizer, **options)
        case "cyclic":
            return lr_scheduler.CyclicLR(optimizer, **options)
        case "one_cycle":
            return lr_scheduler.OneCycleLR(optimizer, total_steps=horizon, **options)
        case "cosine_annealing":
            return lr_scheduler.CosineAnnealingLR(optimizer, T_max=horizon, eta_min=ours.min_lr)
    raise AssertionError(ours.schedule)


def expected(case: Mapping[str, Any], numbers: list[tuple[int, float]]) -> list[Used]:
    """What the rule says for every step of the run."""
    ours = settings_of(case)
    optimizer_config = case["overrides"]["learner_config"]["optimizer_config"]
    bases = [0.1, 0.02] if case["two_groups"] else [optimizer_config["lr"]]
    momentum = {"momentum": 0.9} if optimizer_config["optimizer"] == "sgd" else {}
    groups = [{"params": [torch.zeros(1)], "lr": base} for base in bases]
    optimizer = torch.optim.SGD(groups, **momentum)
    counts = ours.counts()
    if ours.schedule == "plateau":
        plateau = lr_scheduler.ReduceLROnPlateau(optimizer, min_lr=ours.min_lr, **ours.options)
        looked_at = dict(number for index, number in enumerate(numbers, 1) if index % ours.frequency == 0)
        due = {step: value for step, value in looked_at.items() if step > ours.warm_up}
    else:
        schedule = torchs_schedule(ours, max(1, len(set(counts[ours.warm_up :]))), optimizer)
        optimizer.step()  # or torch warns
    used = []
    for step in range(ours.total):
        if ours.schedule == "plateau":
            if step in due:
                plateau.step(due[step])
        elif step and counts[step] > counts[step - 1]:
            schedule.step()
        rates = [group["lr"] for group in optimizer.param_groups]
        if step < ours.warm_up:
            rates = [rate * step / ours.warm_up for rate in rates]
        else:
            rates = [max(rate, ours.min_lr) for rate in rates]
        used.append(Used(rates, optimizer.param_groups[0]["momentum"]))
    return used


# --------------------------------------------------------------------------------------------------------- the tests


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


every_case = pytest.mark.parametrize("index", range(len(CASES)), ids=[case["name"] for case in CASES])


@every_case
def test_the_rate_of_every_update_follows_the_rule(index: int, folder: Path) -> None:
    case, note = CASES[index], run(index, folder / str(index))
    assert list(note.used) == list(range(case["total_steps"]))
    wanted = expected(case, note.numbers)
    for step in settings_of(case).updates():
        assert note.used[step].rates == pytest.approx(wanted[step].rates, rel=REL, abs=0), step
        assert note.used[step].momentum == pytest.approx(wanted[step].momentum, rel=REL, abs=0), step


@every_case
def test_the_rate_of_every_update_is_that_of_emmental(index: int, folder: Path) -> None:
    case, note = CASES[index], run(index, folder / str(index))
    ours = settings_of(case)
    pairs = [
        (note.used[step].rates, theirs)
        for step, theirs in zip(case["step"], case["lr_used"], strict=True)
        if step in ours.updates()
    ]
    assert len(pairs) > 1
    equal = [mine == pytest.approx(theirs, rel=REL, abs=0) for mine, theirs in pairs]
    assert all(equal) == (difference(case["name"]) is None), [
        pair for pair, same in zip(pairs, equal, strict=True) if not same
    ]


@pytest.mark.parametrize(
    "index",
    [
        index
        for index, case in enumerate(CASES)
        if "momentum_after" in case
        and settings_of(case).schedule in ("cyclic", "one_cycle")
        and not settings_of(case).begin
        # Of one_cycle the length differs in these, see DIFFERENCES; cyclic has none.
        if case["name"].startswith("cyclic") or difference(case["name"]) is None or "two_groups" in case["name"]
    ],
    ids=lambda index: CASES[index]["name"],
)
def test_the_momentum_is_that_of_emmental(index: int, folder: Path) -> None:
    case, note = CASES[index], run(index, folder / str(index))
    assert len(set(case["momentum_after"])) > 1
    for (step, after), (next_step, _) in pairwise(zip(case["step"], case["momentum_after"], strict=True)):
        if next_step in settings_of(case).updates():
            assert note.used[step + 1].momentum == pytest.approx(after, rel=REL, abs=0)


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if settings_of(case).schedule == "plateau" and not settings_of(case).begin],
    ids=lambda case: case["name"],
)
def test_a_plateau_that_is_fed_as_emmental_does_has_its_rates(case: Mapping[str, Any]) -> None:
    ours = settings_of(case)
    learning_rate = LearningRate(torch.optim.SGD([torch.zeros(1)], lr=0.1))
    learning_rate.warm_up(steps=ours.warm_up)
    learning_rate.follow({"class": "plateau", **ours.options}, min_lr=ours.min_lr)
    learning_rate.set_length(ours.total, PASS)
    for step, theirs, metric in zip(case["step"], case["lr_used"], case["metric"], strict=True):
        learning_rate.apply(step)
        assert learning_rate.current == pytest.approx(theirs, rel=REL, abs=0), step
        if (step + 1) % ours.period == 0:
            learning_rate.feed(metric, step + 1)


def test_a_worse_negative_number_is_no_improvement() -> None:
    """Torch, and so Emmental, takes -0.95 for better than -1 by more than a tenth."""
    options = {"factor": 0.5, "patience": 0, "threshold": 0.1}
    theirs = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler = lr_scheduler.ReduceLROnPlateau(theirs, **options)
    ours = LearningRate(torch.optim.SGD([torch.zeros(1)], lr=1.0))
    ours.follow({"class": "plateau", **options})
    ours.set_length(None, None)
    for step, value in enumerate([-1.0, -0.95], 1):
        scheduler.step(value)
        ours.feed(value, step)
    ours.apply(2)
    assert (ours.current, theirs.param_groups[0]["lr"]) == ([0.5], 1.0)


def test_a_share_of_the_run_is_not_rounded_up_to_a_step_more() -> None:
    """Emmental's ``ceil(0.07 * 100)`` is 8, since the product is 7.000000000000001."""
    learning_rate = LearningRate(torch.optim.SGD([torch.zeros(1)], lr=1.0))
    learning_rate.warm_up(percentage=0.07)
    learning_rate.set_length(100, None)
    learning_rate.apply(7)
    assert (learning_rate.current, math.ceil(0.07 * 100)) == ([1.0], 8)


@pytest.mark.parametrize("case", ERRORS, ids=lambda case: case["name"])
def test_what_emmental_refuses_is_refused(case: Mapping[str, Any]) -> None:
    assert "warmup_unit" in case["error"]["message"]
    with pytest.raises(ConfigError, match="unknown argument 'step'; did you mean 'steps'"):
        Warmup(step=2)


def test_every_difference_is_of_some_case() -> None:
    for pattern in [*DIFFERENCES, *ALIKE_ALL_THE_SAME]:
        assert any(fnmatchcase(case["name"], pattern) for case in CASES), pattern
