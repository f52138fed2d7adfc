"""A step of a training never makes the host wait for the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Subset

from emloop_mtl.data.column_dataset import ColumnDataset
from emloop_mtl.data.multi_task_dataset import MultiTaskDataset
from emloop_mtl.data.task_loader import TaskLoader
from emloop_mtl.hooks import (
    AverageWeights,
    ClassificationMetrics,
    ComputeStats,
    Evaluate,
    LogProfile,
    LogVariables,
    LRSchedule,
    SaveConfusionMatrix,
    SaveLatest,
    ScoreTasks,
    ShowProgress,
    StopAfter,
    StopOnNaN,
    Warmup,
    WriteJSON,
    WriteTensorBoard,
)
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.models.batch_run import BatchRun
from emloop_mtl.models.joint_run import JointRun
from emloop_mtl.models.linear_heads import LinearHeads
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.optim import finite_watch
from emloop_mtl.optim.learning_rate import LearningRate
from emloop_mtl.optim.update import Update
from emloop_mtl.schedulers.interleaved import Interleaved
from emloop_mtl.schedulers.mixed import Mixed
from emloop_mtl.tasks import Action, Task

from .models import joint

WAYS: dict[str, Callable[[Tensor], Any]] = {
    "item": lambda tensor: tensor.sum().item(),
    "bool": lambda tensor: bool(tensor.any()),
    "float": lambda tensor: float(tensor[0]),
    "int": lambda tensor: int(tensor[0]),
    "index": lambda tensor: [1, 2, 3][tensor[0]],
    "in": lambda tensor: 2 in tensor,
    "tolist": lambda tensor: tensor.tolist(),
    "tolist of a number": lambda tensor: tensor[0].tolist(),
    "cpu": lambda tensor: tensor.cpu(),
    "numpy": lambda tensor: tensor.numpy(),
    "mask": lambda tensor: tensor[tensor > 0],
    "assigning by mask": lambda tensor: tensor.index_put_((tensor > 0,), torch.tensor(1)),
    "nonzero": lambda tensor: tensor.nonzero(),
    "where": lambda tensor: torch.where(tensor > 1),
    "unique": lambda tensor: torch.unique(tensor),
    "unique in a dimension": lambda tensor: torch.unique(tensor, dim=0),
    "unique neighbours": lambda tensor: torch.unique_consecutive(tensor),
    "masked_select": lambda tensor: tensor.masked_select(tensor > 0),
    "repeat_interleave": lambda tensor: torch.repeat_interleave(tensor),
    "equal": lambda tensor: torch.equal(tensor, tensor),
    "bincount": lambda tensor: torch.bincount(tensor),
}


@pytest.mark.parametrize("wait", WAYS.values(), ids=WAYS.keys())
def test_the_guard_notices_every_way_of_waiting(wait: Callable[[Tensor], Any], no_waiting: Any) -> None:
    tensor = torch.tensor([1, 2])
    with pytest.raises(AssertionError, match="waits for the device"), no_waiting():
        wait(tensor)
    wait(tensor)


class Dataset(MultiTaskDataset):
    """Tasks of every kind, with and without missing labels, alone in their batches and together."""

    def loaders(self) -> list[TaskLoader]:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(48, 5, generator=generator)
        kind = torch.randint(3, (48,), generator=generator)
        kind[::5] = -100
        value = torch.randn(48, generator=generator)
        value[:20] = float("nan")
        labels = {
            "kind": kind,
            "kind2": torch.randint(3, (48,), generator=generator),
            "value": value,
            "tags": torch.randint(2, (48, 4), generator=generator).float(),
            "own": torch.randn(48, 2, generator=generator),
        }
        columns = ColumnDataset("data", {"x": x, "uid": [f"row {n}" for n in range(48)]}, labels, uid="uid")
        together = {name: name for name in ("kind", "kind2", "value", "tags")}
        made = []
        for split in ("train", "valid"):
            for name, tasks in (("together", together), ("alone", {"own": "own"})):
                made.append(TaskLoader(columns, tasks, name=f"{name}_{split}", split=split, batch_size=8))
        return made


def own_loss(outputs: Any, label: Tensor) -> Tensor:
    return functional.mse_loss(outputs["own_out"], label) + 0.01 * outputs["features"].square().mean()


@contextmanager
def no_synchronizing() -> Iterator[None]:
    """A context in which CUDA itself refuses whatever the host must wait for."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def make_model(device: str, **options: Any) -> MultiTaskModel:
    torch.manual_seed(0)
    modules: dict[str, nn.Module] = {
        "trunk": nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1)),
        **{f"{name}_head": nn.Linear(8, n) for name, n in (("kind", 3), ("kind2", 3), ("tags", 4), ("own", 2))},
        "value_head": nn.Linear(8, 1),
    }

    def task(name: str, **settings: Any) -> Task:
        flow = [Action("features", "trunk", "x"), Action(f"{name}_out", f"{name}_head", "features")]
        return Task(name, flow=flow, label=name, **settings)

    tasks = [
        task("kind", loss="cross_entropy", missing_label=-100, metrics=["accuracy", "f1_macro"], weight=0.5),
        task("kind2", loss="cross_entropy", metrics=["accuracy"], action_outputs=["features"]),
        task("value", loss="mse", missing_label=float("nan"), metrics=["mean_squared_error"]),
        task("tags", loss="bce_with_logits"),
        task("own", loss=own_loss),
    ]
    options = {"optimizer": {"class": "adamw", "lr": 0.01}, **options}
    return MultiTaskModel(tasks, modules, device=device, **options)


def run_training(folder: Path, guard: Any, streams: Any = None, device: str = "cpu", **options: Any) -> int:
    """Train for two epochs, guarded from the model to the last hook of each step; return how many there were."""
    hooks = [
        *(Evaluate(["valid"]), ScoreTasks(), ComputeStats(["loss", "kind2/features"]), LogVariables(), LogProfile()),
        *(ShowProgress(), WriteJSON(), WriteTensorBoard(), SaveLatest(), StopOnNaN(after_batch=True)),
        *(Warmup(percentage=0.2), LRSchedule("cosine_annealing", min_lr=1e-5), AverageWeights(), StopAfter(epochs=2)),
    ]
    return train_guarded(make_model(device, **options), Dataset(streams=streams), hooks, folder, guard)


def train_guarded(model: MultiTaskModel, dataset: MultiTaskDataset, hooks: list[Any], folder: Path, guard: Any) -> int:
    """Train, guarded from the model to the last hook of each step; return how many there were."""
    loop = MainLoop(model, dataset, hooks, output_dir=folder)
    run, after_batch, steps = model.run, loop.hooks.after_batch, 0

    def guarded_run(batch: Any, train: bool, stream: Any = None) -> Any:
        nonlocal steps
        if not train:
            return run(batch, train, stream)
        steps += 1
        batch = batch if batch.prepared else model.prepare(batch)  # on the host, before the copy to the device
        with guard():
            return run(batch, train, stream)

    def guarded_after_batch(stream_name: str, batch_data: Any) -> Any:
        if not loop.is_training:
            return after_batch(stream_name, batch_data)
        with guard():
            return after_batch(stream_name, batch_data)

    model.run = guarded_run  # type: ignore[method-assign]
    loop.hooks.after_batch = guarded_after_batch  # type: ignore[method-assign]
    loop.run_training()
    return steps


SETTINGS: dict[str, dict[str, Any]] = {
    "fp32": {},
    "bf16": {"precision": "bf16"},
    "fp16": {"precision": "fp16"},
    "windows": {"update": {"accumulate": 3, "clip_norm": 0.5}},
    "Mixed": {"streams": {"train": {"scheduler": Mixed()}}, "update": {"clip_norm": 0.5}},
    "Interleaved": {"streams": {"train": {"scheduler": Interleaved(batch_size=8)}}, "stack_tasks": False},
    "sgd": {"optimizer": {"class": "sgd", "lr": 0.1, "momentum": 0.9}},
    "plain adam": {"optimizer": {"class": "adam", "fused": False}},
    "bert_adam": {"optimizer": {"class": "bert_adam"}},
    "tasks apart": {"stack_tasks": False},
    "compiled": {"compile": {"backend": "eager"}},
    "on_nan: error": {"update": {"on_nan": "error"}},
    "on_nan: error, fp16": {"update": {"on_nan": "error"}, "precision": "fp16"},
    "on_nan: warn, windows": {"update": {"on_nan": "warn", "accumulate": 3, "clip_norm": 0.5}},
    "on_nan: skip": {"update": {"on_nan": "skip"}},
}


@pytest.mark.parametrize("options", SETTINGS.values(), ids=SETTINGS.keys())
def test_no_step_of_a_training_waits(options: dict[str, Any], tmp_path: Path, no_waiting: Any) -> None:
    assert run_training(tmp_path, no_waiting, **options) == 2 * 12


@pytest.mark.parametrize("name", [name for name in SETTINGS if name.startswith("on_nan") and "fp16" not in name])
def test_no_step_waits_where_flags_are_on_their_way(
    name: str, tmp_path: Path, no_waiting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finite_watch, "answers_at_once", lambda device: False)
    assert run_training(tmp_path, no_waiting, **SETTINGS[name]) == 2 * 12


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("options", SETTINGS.values(), ids=SETTINGS.keys())
def test_no_step_of_a_training_waits_for_cuda(options: dict[str, Any], tmp_path: Path) -> None:
    run_training(tmp_path / "warm", nullcontext, device="cuda", **options)  # libraries wait when they are first used
    assert run_training(tmp_path / "run", no_synchronizing, device="cuda", **options) == 2 * 12


def train_and_compare_classes(folder: Path, guard: Any, device: str = "cpu", **options: Any) -> int:
    """Train while hooks keep predictions, of all rows and of those that have a label."""
    hooks = [
        *(ClassificationMetrics("kind/pred", "kind"), ClassificationMetrics("kind2/pred", "kind2", var_prefix="two_")),
        *(SaveConfusionMatrix(labels_name="kind", predictions_name="kind/pred"), StopAfter(epochs=1)),
    ]
    hooks[1].name = "Other"
    return train_guarded(make_model(device), Dataset(**options), hooks, folder, guard)


@pytest.mark.parametrize("name", ["fp32", "Interleaved"])
def test_no_step_waits_where_predicted_classes_are_compared(name: str, tmp_path: Path, no_waiting: Any) -> None:
    streams = SETTINGS[name].get("streams")
    assert train_and_compare_classes(tmp_path, no_waiting, streams=streams) == 12


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_no_step_waits_for_cuda_where_predicted_classes_are_compared(tmp_path: Path) -> None:
    train_and_compare_classes(tmp_path / "warm", nullcontext, "cuda")
    assert train_and_compare_classes(tmp_path / "run", no_synchronizing, "cuda") == 12


MIXERS: dict[str, Any] = {"ids": None, "a scheduler": {"train": {"scheduler": Interleaved(batch_size=8)}}}
"""What puts rows of several tasks into one batch."""


def train_jointly(folder: Path, guard: Any, streams: Any, device: str = "cpu") -> int:
    """Train a model for joint learning for two epochs while hooks read all that it says of batches as a whole."""
    heads = LinearHeads(5, joint.CLASSES, missing_label=-100)
    hooks = [
        *(Evaluate(["valid"]), ScoreTasks(train=True), ComputeStats(["loss", "loss_cls", "acc", "preds"])),
        *(KeepActivations(), LogVariables(), SaveLatest(), StopOnNaN(after_batch=True), StopAfter(epochs=2)),
    ]
    model = joint.make_model(heads=heads, device=device, activations=["0", "3"])
    dataset = joint.Tasks(is_mixed=streams is None, lacks_labels=True, streams=streams)
    return train_guarded(model, dataset, hooks, folder, guard)


class KeepActivations(StopAfter):
    """A hook that reads the activations."""

    def __init__(self) -> None:
        super().__init__(epochs=3)

    def requires(self) -> list[Any]:
        return ["activations"]

    def after_batch(self, stream_name: str, batch_data: Any) -> None:
        assert set(batch_data["activations"]) == {"0", "3"}


@pytest.mark.parametrize("streams", MIXERS.values(), ids=MIXERS.keys())
def test_no_step_of_joint_learning_waits(streams: Any, tmp_path: Path, no_waiting: Any) -> None:
    assert train_jointly(tmp_path, no_waiting, streams) == 2 * 7  # 50 rows, 8 in a batch


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("streams", MIXERS.values(), ids=MIXERS.keys())
def test_no_step_of_joint_learning_waits_for_cuda(streams: Any, tmp_path: Path) -> None:
    train_jointly(tmp_path / "warm", nullcontext, streams, "cuda")
    assert train_jointly(tmp_path / "run", no_synchronizing, streams, "cuda") == 2 * 7


class Sentences(MultiTaskDataset):
    """Sequences of different lengths, some of whose tokens have labels."""

    def loaders(self) -> list[TaskLoader]:
        generator = torch.Generator().manual_seed(0)
        lengths = torch.randint(1, 9, (24,), generator=generator).tolist()
        words = [torch.randint(1, 9, (length,), generator=generator) for length in lengths]
        tags = [torch.where(each > 6, -100, each % 3) for each in words]
        columns = ColumnDataset(
            "texts", {"words": words, "uid": [f"row {n}" for n in range(24)]}, {"tags": tags}, "uid"
        )
        tasks = {"by_name": "tags", "own": "tags"}
        if "train" not in self.stream_settings:
            return [TaskLoader(columns, tasks, split="train", batch_size=8)]
        rows = {"by_name": range(12), "own": range(12, 24)}
        return [
            TaskLoader(Subset(columns, rows[task]), {task: label}, split="train", name=task, batch_size=8)
            for task, label in tasks.items()
        ]


def own_sequence_loss(outputs: Any, label: Tensor) -> Tensor:
    return functional.cross_entropy(outputs["own_out"].transpose(1, 2), label)


def train_on_tokens(folder: Path, guard: Any, streams: Any, device: str = "cpu") -> int:
    """Train tasks whose labels are of tokens for two epochs, and score them in training."""
    settings: dict[str, Any] = {"label": "tags", "tokens": "words", "missing_label": -100, "metrics": ["accuracy"]}
    tasks = [
        Task(
            name,
            {"vectors": nn.Embedding(9, 8), f"{name}_head": nn.Linear(8, 3)},
            [Action("vectors", "vectors", "words"), Action(f"{name}_out", f"{name}_head", "vectors")],
            loss=loss,
            output="softmax",
            **settings,
        )
        for name, loss in (("by_name", "cross_entropy"), ("own", own_sequence_loss))
    ]
    hooks = [
        ScoreTasks(train=True),
        ComputeStats(["loss", "own/loss"]),
        StopOnNaN(after_batch=True),
        StopAfter(epochs=2),
    ]
    return train_guarded(MultiTaskModel(tasks, device=device), Sentences(streams=streams), hooks, folder, guard)


@pytest.mark.parametrize("streams", MIXERS.values(), ids=["one loader", "mixed"])
def test_no_step_waits_where_tokens_have_labels(streams: Any, tmp_path: Path, no_waiting: Any) -> None:
    assert train_on_tokens(tmp_path, no_waiting, streams) == 2 * 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("streams", MIXERS.values(), ids=["one loader", "mixed"])
def test_no_step_waits_for_cuda_where_tokens_have_labels(streams: Any, tmp_path: Path) -> None:
    train_on_tokens(tmp_path / "warm", nullcontext, streams, "cuda")
    assert train_on_tokens(tmp_path / "run", no_synchronizing, streams, "cuda") == 2 * 3


@pytest.mark.parametrize("name", ["forward", "_present", "_add_outputs"])
def test_joint_learning_that_waits_is_noticed(
    name: str, tmp_path: Path, no_waiting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = getattr(JointRun, name)
    monkeypatch.setattr(JointRun, name, lambda *args: (torch.ones(1).item(), original(*args))[1])
    with pytest.raises(AssertionError, match="waits for the device"):
        train_jointly(tmp_path, no_waiting, None)


@pytest.mark.parametrize(
    ("owner", "method"),
    [
        (BatchRun, "_add_tasks"),
        (Task, "task_loss"),
        (Update, "end_step"),
        (LearningRate, "apply"),
        (ComputeStats, "after_batch"),
        (ScoreTasks, "after_batch"),
        (StopOnNaN, "after_batch"),
        (ShowProgress, "after_batch"),
    ],
)
def test_one_place_that_waits_is_noticed(
    owner: Any, method: str, tmp_path: Path, no_waiting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = getattr(owner, method)

    def waiting(*args: Any, **kwargs: Any) -> Any:
        torch.ones(1).item()
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, method, waiting)
    with pytest.raises(AssertionError, match="waits for the device"):
        run_training(tmp_path, no_waiting, stack_tasks=False)
