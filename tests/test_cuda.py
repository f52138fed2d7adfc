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
from emloop_mtl.errors import CheckpointError, NotFiniteError
from emloop_mtl.hooks import ComputeStats, SaveLatest, StopAfter
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.tasks import Action, Task
from emloop_mtl.tasks.metrics import create_metric
from emloop_mtl.testing import SaveAndFail

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


def make_model(dropout: float = 0.0, **options: Any) -> MultiTaskModel:
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), *([nn.Dropout(dropout)] if dropout else []))
    modules = {"trunk": trunk, "a_head": nn.Linear(8, 3), "b_head": nn.Linear(8, 3)}
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


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("fail_at", [8, 12])
def test_a_run_that_breaks_off_goes_on_with_the_generator_of_the_gpu(
    fail_at: int, precision: str, tmp_path: Path
) -> None:
    def run(folder: Path, fail_at: int | None = None, resume: bool = False) -> MultiTaskModel:
        # Dropout draws on the GPU, windows of 3 steps are open, and batches were copied ahead.
        model = make_model(dropout=0.5, precision=precision, update={"accumulate": 3})
        hooks = [ComputeStats(["loss"]), SaveAndFail(fail_at=fail_at), StopAfter(steps=16)]
        loop = MainLoop(model, Dataset(), hooks, output_dir=folder, buffer=2, fixed_epoch_size=4)
        if resume:
            loop.restore(newest_checkpoint(folder / "checkpoints"))
            torch.rand(3, device=model.device)
        loop.run_training()
        return model

    whole = run(tmp_path / "whole")
    expected = torch.cuda.get_rng_state()
    with pytest.raises(RuntimeError, match="failed at moment"):
        run(tmp_path / "cut", fail_at)
    assert_equal(whole, run(tmp_path / "cut", resume=True))
    assert torch.equal(torch.cuda.get_rng_state(), expected)


def test_a_state_that_is_none_of_a_gpu_is_told(tmp_path: Path) -> None:
    train(make_model(), tmp_path, 8)
    checkpoint = newest_checkpoint(tmp_path / "checkpoints")
    checkpoint.state["random"]["cuda"] = [torch.zeros(3, dtype=torch.uint8)]
    hooks = [ComputeStats(["loss"]), SaveLatest(), StopAfter(steps=9)]
    loop = MainLoop(make_model(), Dataset(), hooks, output_dir=tmp_path, fixed_epoch_size=4)
    loop.restore(checkpoint)
    with pytest.raises(CheckpointError, match="the random state of CUDA device 0 is none of ours"):
        loop.run_training()


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


def make_batches(bad: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    batches = []
    for number in range(6):
        x = torch.randn(16, 5, generator=generator)
        x[3, 1] = torch.nan if number == bad else x[3, 1]
        labels = {name: torch.randint(3, (16,), generator=generator) for name in "ab"}
        batches.append(Batch({"x": x, **labels}, tasks={name: name for name in "ab"}))
    return batches


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd", "rmsprop"])
def test_an_update_that_is_not_finite_is_left_out(optimizer: str, precision: str) -> None:
    settings: dict[str, Any] = {"optimizer": {"class": optimizer, "lr": 0.01}, "precision": precision}
    skipping, other = make_model(update={"on_nan": "skip"}, **settings), make_model(**settings)
    for number, batch in enumerate(make_batches(bad=2)):
        skipping.run(batch, train=True)
        if number != 2:
            other.run(batch, train=True)
    skipping.settle()
    assert skipping.update.watch is not None
    assert skipping.update.watch.skipped == 1
    for name, value in other.state_dict().items():
        assert torch.equal(value, skipping.state_dict()[name])


@pytest.mark.parametrize("on_nan", ["error", "warn"])
def test_a_batch_that_is_not_finite_is_named_by_its_step(on_nan: str, caplog: pytest.LogCaptureFixture) -> None:
    model = make_model(update={"on_nan": on_nan})
    said = ""
    try:
        for batch in make_batches(bad=2):
            model.run(batch, train=True)
        model.settle()
    except NotFiniteError as error:
        said = str(error)
    said = said if on_nan == "error" else caplog.messages[0]
    assert said.startswith("the loss of task 'a', 'b' is nan: step 3, task 'a', 'b'")


def test_modules_of_one_flow_on_two_devices_learn_what_they_learn_on_one(tmp_path: Path) -> None:
    def make(device: str, **places: Any) -> MultiTaskModel:
        torch.manual_seed(0)
        modules = {"trunk": nn.Linear(5, 8), "a_head": nn.Linear(8, 3), "b_head": nn.Linear(8, 3)}
        tasks = []
        for name in "ab":
            flow = [Action("features", "trunk", "x"), Action(f"{name}_out", f"{name}_head", "features")]
            options = {"missing_label": -100, "module_device": places if name == "a" else None}
            tasks.append(Task(name, flow=flow, label=name, loss="cross_entropy", **options))
        return MultiTaskModel(tasks, modules, optimizer={"class": "adamw", "lr": 0.01}, device=device)

    models = {"cpu": make("cpu"), "both": make("cuda", a_head=-1)}
    for name, model in models.items():
        train(model, tmp_path / name, 8)
    both = models["both"]
    devices = {name: value.device.type for name, value in both.network.state_dict().items()}
    assert devices == {name: "cpu" if name.startswith("a_head") else "cuda" for name in devices}
    for parameter, entry in both.optimizer.state.items():
        assert entry["exp_avg"].device == parameter.device
    # float32 sums in another order, over eight steps of Adam, whose first ones are as long for small gradients
    for name, value in models["cpu"].network.state_dict().items():
        torch.testing.assert_close(both.network.state_dict()[name].cpu(), value, rtol=1e-3, atol=1e-4)
    again = make("cuda", a_head=-1)
    train(again, tmp_path / "again", 8, resume=tmp_path / "both")
    for name, value in both.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], value), name
