from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from emloop_mtl.abstract_hook import AbstractHook, TrainingTerminated
from emloop_mtl.checkpoint import newest_checkpoint
from emloop_mtl.cli import main
from emloop_mtl.data.batch import Batch
from emloop_mtl.data.column_dataset import ColumnDataset
from emloop_mtl.data.multi_task_dataset import MultiTaskDataset
from emloop_mtl.data.task_loader import TaskLoader
from emloop_mtl.errors import NotFiniteError
from emloop_mtl.hooks import Evaluate, SaveLatest, ScoreTasks, StopAfter, StopOnNaN
from emloop_mtl.hooks.stopping.trained_values import checks_of_training
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.tasks.task import Task
from emloop_mtl.testing import FakeDataset, FakeModel, run_hook

from .nan_runs import INF, NAN


def loop_until(folder: Path, bad_from: int, *hooks: AbstractHook) -> MainLoop:
    """Make a loop over 5 steps per epoch whose loss is nan from a batch of the source ``x`` on."""
    outputs = {"loss": lambda batch: torch.tensor(NAN if batch["x"][0] >= bad_from else 1.0)}
    dataset = FakeDataset(train=[{"x": [index]} for index in range(5)])
    return MainLoop(FakeModel(outputs), dataset, list(hooks), output_dir=folder, skip_zeroth_epoch=True)


@pytest.mark.parametrize("before", [True, False])
def test_a_good_checkpoint_is_never_replaced_by_a_bad_one(tmp_path: Path, before: bool) -> None:
    save, hook = SaveLatest(steps=1), StopOnNaN(after_batch=True, after_epoch=False)
    hooks: list[AbstractHook] = [hook, save] if before else [save, hook]
    with pytest.raises(NotFiniteError, match="step 4, batch 3"):
        loop_until(tmp_path, 3, *hooks).run_training()
    checkpoint = newest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint.position.step == 3  # found when the fourth was about to be saved
    assert not checkpoint.finished


def test_a_resumed_training_counts_on(tmp_path: Path) -> None:
    class Cut(AbstractHook):
        def after_batch(self, stream_name: str, batch_data: Batch) -> None:
            if self.main_loop.position.step == 2:
                self.main_loop.request_save("cut")
                raise TrainingTerminated("cut")

    loop_until(tmp_path, 9, StopOnNaN(after_batch=True, after_epoch=False), Cut()).run_training()
    hook = StopOnNaN(after_batch=True, after_epoch=False)
    loop = loop_until(tmp_path, 3, hook)
    loop.restore(newest_checkpoint(tmp_path / "checkpoints"))
    assert hook.state_dict() == {"epoch": 1, "batches": {"train": 2}, "losses": {"labelled": {}, "lacking": []}}
    with pytest.raises(NotFiniteError, match=r"epoch 1, stream 'train', step 4, batch 3$"):
        loop.run_training()


# ------------------------------------------------------------------------------------------------- with the real model


class WithABadRow(MultiTaskDataset):
    """12 rows whose row 7 has an image of nan; of two loaders only ``shapes`` holds it."""

    def loaders(self) -> list[TaskLoader]:
        generator = torch.Generator().manual_seed(0)
        image = torch.randn(12, 3, generator=generator)
        bad = image.clone()
        bad[7, 1] = NAN
        digits = ColumnDataset("digits", {"image": image}, {"digit": image.argmax(1)})
        shapes = ColumnDataset("shapes", {"image": bad}, {"size": image.sum(1)})
        return [
            TaskLoader(digits, {"digit": "digit"}, "train", batch_size=4, shuffle=False),
            TaskLoader(shapes, {"size": "size"}, "train", batch_size=4, shuffle=False),
            TaskLoader(shapes, {"size": "size"}, "valid", batch_size=4),
        ]


class DatasetOf(MultiTaskDataset):
    """The streams of some loaders."""

    def __init__(self, *loaders: TaskLoader) -> None:
        super().__init__()
        self._loaders = list(loaders)

    def loaders(self) -> list[TaskLoader]:
        return self._loaders


@pytest.mark.parametrize("check_every", [1, 100])
def test_a_bad_row_of_one_task_is_found(
    make_model: Callable[..., MultiTaskModel], tmp_path: Path, check_every: int
) -> None:
    hooks = [StopOnNaN(after_batch=True, check_every=check_every), ScoreTasks(), SaveLatest(steps=1)]
    loop = MainLoop(make_model(), WithABadRow(), hooks, skip_zeroth_epoch=True, output_dir=tmp_path)
    expected = (
        "StopOnNaN: 'size/loss' is nan (task 'size'), 'loss' is nan in epoch 1, stream 'train', step 4, batch 3, "
        "loader 'shapes', task 'size', uids 4, 5, 6, 7"
    )
    with pytest.raises(NotFiniteError, match=f"^{re.escape(expected)}$"):
        loop.run_training()
    weights = newest_checkpoint(tmp_path / "checkpoints").weights
    assert all(weight.isfinite().all() for weight in weights.values())


def root_of_zero(at_step: int) -> Any:
    """Return a loss that is finite always, and whose gradient is nan in one step; before the first, it is tried."""
    steps = iter(range(10**6))

    def loss(outputs: Any, label: Any) -> Any:
        is_spoilt = outputs["out"].requires_grad and next(steps) == at_step
        return outputs["out"].mul(0 if is_spoilt else 1).square().sum().sqrt()

    return loss


@pytest.mark.parametrize(
    ("update", "message"),
    [
        ({}, "the weight 'size_head.weight' is nan or infinite after step 2, so that is not saved"),
        ({"accumulate": 3}, "the gradient of 'size_head.weight' is nan or infinite after step 2, so that is not saved"),
    ],
)
@pytest.mark.parametrize("after_batch", [True, False])
def test_weights_that_an_update_has_spoilt_are_not_saved(
    tmp_path: Path, update: dict[str, Any], message: str, after_batch: bool
) -> None:
    head = torch.nn.Linear(3, 1)
    flow = [{"name": "out", "module": "size_head", "inputs": "image"}]
    task = Task("size", flow=flow, label="size", loss=root_of_zero(at_step=2))
    model = MultiTaskModel([task], {"size_head": head}, optimizer={"class": "sgd", "lr": 0.1}, update=update)
    image = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    rows = ColumnDataset("shapes", {"image": image}, {"size": image.sum(1, keepdim=True)})
    dataset = DatasetOf(TaskLoader(rows, {"size": "size"}, "train", batch_size=4))
    hooks = [ScoreTasks(), StopOnNaN(after_batch=after_batch), SaveLatest(steps=1), StopAfter(epochs=1)]
    loop = MainLoop(model, dataset, hooks, skip_zeroth_epoch=True, output_dir=tmp_path)
    with pytest.raises(NotFiniteError, match=re.escape(message)):
        loop.run_training()
    checkpoint = newest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint.position.step == 1
    assert all(weight.isfinite().all() for weight in checkpoint.weights.values())


def test_weights_that_are_infinite_are_not_saved_and_frozen_ones_may_be(
    make_model: Callable[..., MultiTaskModel], make_dataset: Callable[..., MultiTaskDataset], tmp_path: Path
) -> None:
    model = make_model()
    hook = StopOnNaN()
    MainLoop(model, make_dataset(), [hook], output_dir=tmp_path)
    weight = model.network.get_parameter("size_head.weight")
    weight.data[0, 1] = -INF
    with pytest.raises(NotFiniteError, match="the weight 'size_head.weight' is nan or infinite after step 0"):
        hook.state_dict()
    weight.requires_grad_(False)
    assert hook.state_dict()["epoch"] == 0


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_open_gradient_may_be_infinite_in_fp16_only(precision: str) -> None:
    network = torch.nn.Linear(2, 1)
    network.weight.grad = torch.tensor([[INF, 1.0]])
    model = SimpleNamespace(network=network, precision=precision)
    bad = [what for what, check in checks_of_training(model) if check]
    assert bad == (["the gradient of 'weight'"] if precision == "fp32" else [])


def test_a_sparse_gradient_is_looked_at() -> None:
    table = torch.nn.Embedding(4, 1, sparse=True)
    (table(torch.tensor([1])).sum() * NAN).backward()
    assert [what for what, check in checks_of_training(SimpleNamespace(network=table)) if check] == [
        "the gradient of 'weight'"
    ]


def test_a_bad_row_of_an_evaluated_stream_is_found_in_the_scores(make_model: Callable[..., MultiTaskModel]) -> None:
    hooks = [Evaluate(["valid"]), ScoreTasks(streams=["valid"]), StopOnNaN()]
    expected = (
        "StopOnNaN: the number 'size/shapes/loss' of stream 'valid' is nan in epoch 0 (task 'size', loader 'shapes'); "
    )
    with pytest.raises(NotFiniteError, match=re.escape(expected)):
        MainLoop(make_model(), WithABadRow(), hooks).run_training()


def test_an_evaluation_leaves_it_out() -> None:
    assert StopOnNaN.training_only


def test_the_command_says_so_in_one_line_and_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("config.yaml").write_text("""
        dataset: {class: emloop_mtl.testing.FakeDataset, train: [{x: [1]}]}
        model: {class: emloop_mtl.testing.FakeModel, outputs: {loss: .nan}}
        hooks: [StopOnNaN: {after_batch: true}]
    """)
    result = CliRunner().invoke(main, ["train", "config.yaml"])
    assert result.exit_code == 1
    last = result.stderr.splitlines()[-1]
    assert last == "error: StopOnNaN: 'loss' is nan in epoch 0, stream 'train', batch 0"


def test_a_weight_that_torch_cannot_look_at_is_saved_with_the_others() -> None:
    model = FakeModel()
    model.network = nn.Module()  # type: ignore[attr-defined]
    model.network.weight = nn.Parameter(torch.ones(3).to(torch.float8_e4m3fn))  # torch has no isfinite of these
    hook = StopOnNaN(after_batch=True)
    run_hook(hook, model=model)
    assert hook.state_dict()["epoch"] == 1
