"""Files of a model whose tasks run as one: the same names, shapes and sizes, and a resumed run that ends alike."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.checkpoint import MANIFEST_FILE, MODEL_FILE, newest_checkpoint
from emloop_mtl.data.batch import Batch
from emloop_mtl.data.column_dataset import ColumnDataset
from emloop_mtl.data.multi_task_dataset import MultiTaskDataset
from emloop_mtl.data.task_loader import TaskLoader
from emloop_mtl.hooks import SaveLatest, StopAfter, StopOnNaN
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.tasks.task_stack import TaskStack
from emloop_mtl.types import EpochData

MakeHeads = Callable[..., MultiTaskModel]
MakeBatch = Callable[..., Batch]

SETTINGS: dict[str, Any] = {
    "optimizer": {"class": "adamw", "lr": 0.02},
    "update": {"accumulate": 3, "clip_norm": 0.5},
    "hidden": True,
}


class KilledError(Exception):
    pass


class Kill(AbstractHook):
    """Breaks the training off after a step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self._step = step

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        if self.main_loop.is_training and self.main_loop.position.step == self._step:
            raise KilledError


class Dataset(MultiTaskDataset):
    """A loader with all tasks, perhaps one with some of them beside it, and one of each task to evaluate."""

    def __init__(self, parted: bool, **options: Any) -> None:
        self._parted = parted
        super().__init__(**options)

    def loaders(self) -> list[TaskLoader]:
        generator = torch.Generator().manual_seed(4)
        features = {"x": torch.randn(40, 5, generator=generator, dtype=torch.float64)}
        labels = {f"t{n}": torch.randint(3, (40,), generator=generator) for n in range(7)}
        labels["t1"][::3] = -100
        every = {name: name for name in labels}
        columns = ColumnDataset("all", features, labels)
        found = [TaskLoader(columns, every, name="all", split="train", batch_size=8)]
        if self._parted:
            some = {"t0": "t0", "t2": "t2", "t5": "t5"}
            found.append(TaskLoader(columns, some, name="some", split="train", batch_size=16))
        found += [TaskLoader(columns, {name: name}, name=name, split="valid", batch_size=16) for name in labels]
        return found


def make_loop(folder: Path, model: MultiTaskModel, parted: bool, buffer: int, *hooks: AbstractHook) -> MainLoop:
    return MainLoop(
        model,
        Dataset(parted),
        [SaveLatest(steps=2), StopOnNaN(after_batch=True), *hooks, StopAfter(steps=14)],
        output_dir=folder,
        extra_streams=["valid"],
        buffer=buffer,
    )


@pytest.mark.long
@pytest.mark.parametrize("parted", [False, True])
@pytest.mark.parametrize("buffer", [0, 4])
def test_a_killed_run_ends_like_one_that_was_not(
    make_heads: MakeHeads, tmp_path: Path, parted: bool, buffer: int
) -> None:
    undisturbed = make_heads(7, **SETTINGS)
    make_loop(tmp_path / "whole", undisturbed, parted, buffer).run_training()
    stacks = [("t0", "t2", "t5"), ("t1", "t3", "t4", "t6")] if parted else [tuple(f"t{n}" for n in range(7))]
    assert undisturbed.stacked_tasks == stacks
    for step in (1, 5, 6, 9):
        folder = tmp_path / f"killed{step}"
        with pytest.raises(KilledError):
            make_loop(folder, make_heads(7, **SETTINGS), parted, buffer, Kill(step)).run_training()
        resumed = make_heads(7, **SETTINGS)
        loop = make_loop(folder, resumed, parted, buffer)
        loop.restore(newest_checkpoint(folder / "checkpoints"))
        loop.run_training()
        assert resumed.stacked_tasks == stacks
        for name, weight in undisturbed.state_dict().items():
            assert torch.equal(resumed.state_dict()[name], weight), (step, name)


def test_stacked_and_apart_come_to_the_same_through_the_loop(make_heads: MakeHeads, tmp_path: Path) -> None:
    models = [make_heads(7, stack_tasks=stack, **SETTINGS) for stack in (True, False)]
    for number, model in enumerate(models):
        make_loop(tmp_path / str(number), model, True, 2).run_training()
    for name, weight in models[1].state_dict().items():
        # float64 rounds in the 16th digit; Adam divides by roots of small numbers
        torch.testing.assert_close(models[0].state_dict()[name], weight, rtol=1e-10, atol=1e-10)
    files = [newest_checkpoint(tmp_path / str(number) / "checkpoints") for number in range(2)]
    assert files[0].state["model"]["optimizer"].keys() == files[1].state["model"]["optimizer"].keys()
    sizes = [{path.name: path.stat().st_size for path in found.path.iterdir()} for found in files]
    assert sizes[0][MODEL_FILE] == sizes[1][MODEL_FILE]
    manifests = [json.loads((found.path / MANIFEST_FILE).read_text()) for found in files]
    assert manifests[0]["ties"] == manifests[1]["ties"] == {}


def test_weight_files_hold_the_same_names_and_shapes(
    make_heads: MakeHeads, make_batch: MakeBatch, tmp_path: Path
) -> None:
    stacked, apart = (make_heads(stack_tasks=stack, output_dir=tmp_path / str(stack)) for stack in (True, False))
    for model in (stacked, apart):
        model.run(make_batch(), train=True)
    first, second = Path(stacked.save()), Path(apart.save())
    assert first.stat().st_size == second.stat().st_size
    loaded, wanted = load_file(first), load_file(second)
    assert {n: (t.shape, t.dtype) for n, t in loaded.items()} == {n: (t.shape, t.dtype) for n, t in wanted.items()}
    assert all(torch.equal(loaded[name], weight) for name, weight in stacked.state_dict().items())
    # What is loaded is trained on at once, by all tasks.
    apart.load(first)
    before = copy.deepcopy(stacked.state_dict())
    stacked.load(second)
    stacked.load(first)
    assert all(torch.equal(stacked.state_dict()[name], weight) for name, weight in before.items())
    outputs = [model.run(make_batch(seed=2), train=False) for model in (stacked, apart)]
    for name, value in outputs[1].items():
        # sums are taken in another order; probabilities are in float32
        torch.testing.assert_close(outputs[0][name], value, rtol=1e-6, atol=1e-6)


class FreezeInside(AbstractHook):
    """Freezes a head inside an epoch."""

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        if self.main_loop.position.step == 7:
            self.main_loop.model.network["t1_head"].requires_grad_(False)


class FreezeBetween(AbstractHook):
    """Freezes a head between two epochs."""

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        if epoch_id == 1:
            self.main_loop.model.network["t1_head"].requires_grad_(False)


@pytest.mark.parametrize("freeze", [FreezeInside, FreezeBetween])
def test_a_head_that_a_hook_freezes_learns_no_more(
    make_heads: MakeHeads, tmp_path: Path, freeze: type[AbstractHook]
) -> None:
    models = [make_heads(7, stack_tasks=stack, optimizer="sgd") for stack in (True, False)]
    for model in models:
        MainLoop(model, Dataset(False), [freeze(), StopAfter(epochs=3)], output_dir=tmp_path).run_training()
    assert models[0].stacked_tasks == [("t0", "t2", "t3", "t4", "t5", "t6")]
    for name, weight in models[1].state_dict().items():
        # float64 rounds in the 16th digit
        torch.testing.assert_close(models[0].state_dict()[name], weight, rtol=1e-11, atol=1e-11)


def test_modules_are_looked_at_once_an_epoch_if_hooks_are_ours(
    make_heads: MakeHeads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other(AbstractHook):
        def after_batch(self, stream_name: str, batch_data: Batch) -> None:
            pass

    looks: list[TaskStack] = []
    is_intact = TaskStack.is_intact
    monkeypatch.setattr(TaskStack, "is_intact", lambda self, network: looks.append(self) or is_intact(self, network))

    def count(*hooks: AbstractHook) -> int:
        looks.clear()
        every = [*hooks, StopOnNaN(after_batch=True), StopAfter(epochs=4)]
        loop = MainLoop(make_heads(7), Dataset(False), every, output_dir=tmp_path, skip_zeroth_epoch=True)
        loop.run_training()
        return len(looks)

    # Four epochs of five batches; before the very first batch, no tasks are together.
    assert count() == 4
    assert count(Other()) == 19


def test_an_infinite_gradient_in_an_open_window_is_found(make_heads: MakeHeads, tmp_path: Path) -> None:
    class Spoil(AbstractHook):
        def after_batch(self, stream_name: str, batch_data: Batch) -> None:
            if self.main_loop.is_training and self.main_loop.position.step == 4:
                model = self.main_loop.model
                gradients = [p.grad for p in model.optimizer.param_groups[0]["params"] if p.grad is not None]
                gradients[-1].view(-1)[-1] = float("inf")

    model = make_heads(7, **SETTINGS)
    loop = make_loop(tmp_path, model, False, 0, Spoil())
    with pytest.raises(Exception, match="the gradient of 't6_head.2.bias'"):
        loop.run_training()
