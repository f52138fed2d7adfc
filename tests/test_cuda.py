"""What is otherwise on a GPU: reading ahead, lower precisions, fused optimizers, compiled flows, checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from emloop_mtl.checkpoint import newest_checkpoint
from emloop_mtl.data.batch import Batch
from emloop_mtl.data.column_dataset import ColumnDataset
from emloop_mtl.data.multi_task_dataset import MultiTaskDataset
from emloop_mtl.data.task_loader import TaskLoader
from emloop_mtl.hooks import ComputeStats, SaveLatest, StopAfter
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.tasks import Action, Task
from emloop_mtl.tasks.metrics import create_metric

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
    # torch's own compiler imports parts of torch that warn of themselves.
    pytest.mark.filterwarnings("ignore:`torch.jit.:DeprecationWarning"),
]


class Dataset(MultiTaskDataset):
    def loaders(self) -> list[TaskLoader]:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(64, 5, generator=generator)
        labels = {name: torch.randint(3, (64,), generator=generator) for name in "ab"}
        labels["a"][::7] = -100
        columns = ColumnDataset("data", {"x": x}, labels)
        return [TaskLoader(columns, {name: name for name in "ab"}, split="train", batch_size=16)]


def make_model(**options: Any) -> MultiTaskModel:
    torch.manual_seed(0)
    modules = {"trunk": nn.Sequential(nn.Linear(5, 8), nn.Tanh()), "a_head": nn.Linear(8, 3), "b_head": nn.Linear(8, 3)}
    tasks = []
    for name in "ab":
        flow = [Action("features", "trunk", "x"), Action(f"{name}_out", f"{name}_head", "features")]
        tasks.append(Task(name, flow=flow, label=name, loss="cross_entropy", missing_label=-100))
    options = {"optimizer": {"class": "adamw", "lr": 0.01}, "device": "cuda", **options}
    return MultiTaskModel(tasks, modules, **options)


@pytest.mark.parametrize("metric", ["roc_auc", "f1_macro", "log_loss", "calibration_error", "sklearn.metrics.f1_score"])
def test_scores_are_those_of_the_cpu_and_no_rows_stay_on_the_device(metric: str) -> None:
    generator = torch.Generator().manual_seed(0)
    label, prob = torch.randint(2, (4096,), generator=generator), torch.rand(4096, 2, generator=generator).softmax(1)
    there, here = create_metric(metric), create_metric(metric)
    before = torch.cuda.memory_allocated()
    for rows in torch.arange(4096).split(8):
        batch = prob[rows].cuda()
        there.update(label[rows].cuda(), batch, batch.argmax(1))
        here.update(label[rows], prob[rows], prob[rows].argmax(1))
    batch = None
    assert torch.cuda.memory_allocated() - before < 4096 * 8 + 1024  # what the rows of one column would take
    second = there.fresh()
    second.load_state_dict(there.state_dict())
    for each in (there, second):  # sums of float64 in another order
        assert each.compute() == pytest.approx(here.compute(), rel=1e-9)


def train(model: MultiTaskModel, folder: Path, steps: int, buffer: int = 0, resume: Path | None = None) -> None:
    hooks = [ComputeStats(["loss"]), SaveLatest(), StopAfter(steps=steps)]
    loop = MainLoop(model, Dataset(), hooks, output_dir=folder, buffer=buffer, fixed_epoch_size=4)
    if resume is not None:
        loop.restore(newest_checkpoint(resume / "checkpoints"))
    loop.run_training()


def weights(model: MultiTaskModel) -> list[torch.Tensor]:
    return [weight.detach().cpu().clone() for weight in model.state_dict().values()]


def assert_equal(one: MultiTaskModel, other: MultiTaskModel) -> None:
    assert all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_optimizers_run_fused(optimizer: str) -> None:
    model = make_model(optimizer={"class": optimizer, "lr": 0.1})
    assert all(group["fused"] for group in model.optimizer.param_groups)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_it_learns_what_it_learns_on_the_cpu(precision: str, tmp_path: Path) -> None:
    model, other = make_model(precision=precision), make_model(device="cpu")
    train(model, tmp_path / "cuda", 16)
    train(other, tmp_path / "cpu", 16)
    # TF32 is off by default, so float32 differs by the order of summation alone; the others keep 8 and 11 bits.
    tolerance = 1e-4 if precision == "fp32" else 0.05
    for ours, theirs in zip(weights(model), weights(other), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("buffer", [1, 4])
def test_reading_ahead_changes_nothing(buffer: int, tmp_path: Path) -> None:
    model, other = make_model(), make_model()
    train(model, tmp_path / "ahead", 16, buffer)
    train(other, tmp_path / "plain", 16)
    assert_equal(model, other)


def test_batches_are_copied_without_waiting() -> None:
    model = make_model()
    model.run(Batch({"x": torch.randn(4, 5), "a": torch.zeros(4, dtype=torch.int64)}, tasks={"a": "a"}), train=True)
    torch.cuda.set_sync_debug_mode("error")
    try:
        labels = torch.tensor([0, -100, 1, 2])
        batch = model.prepare(Batch({"x": torch.randn(4, 5), "a": labels}, tasks={"a": "a"}))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert {batch[name].device.type for name in ("x", "a")} == {"cuda"}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_resumed_run_ends_alike(precision: str, tmp_path: Path) -> None:
    whole, first, second = (make_model(precision=precision) for _ in range(3))
    train(whole, tmp_path / "whole", 16)
    train(first, tmp_path / "cut", 8)
    train(second, tmp_path / "cut", 16, resume=tmp_path / "cut")
    assert_equal(whole, second)


def test_a_checkpoint_of_a_gpu_goes_on_without_one(tmp_path: Path) -> None:
    whole, first, second = make_model(), make_model(), make_model(device="cpu")
    train(whole, tmp_path / "whole", 16)
    train(first, tmp_path / "cut", 8)
    train(second, tmp_path / "cut", 16, resume=tmp_path / "cut")
    for ours, theirs in zip(weights(second), weights(whole), strict=True):
        # float32 on two devices sums up in two orders
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.soak
def test_compiled_flows_learn_the_same(tmp_path: Path) -> None:
    model, other = make_model(compile=True), make_model()
    train(model, tmp_path / "compiled", 8)
    train(other, tmp_path / "plain", 8)
    for ours, theirs in zip(weights(model), weights(other), strict=True):
        # fused operations round otherwise in the last of float32's digits
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
