"""What every exported task scheduler must do when a training breaks off: go on from a file as if it had not."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML
from torch import nn

from emloop_mtl import MainLoop, MultiTaskDataset, MultiTaskModel, schedulers
from emloop_mtl.checkpoint import newest_checkpoint
from emloop_mtl.data import Batch, ColumnDataset, TaskLoader
from emloop_mtl.hooks import ComputeStats, Evaluate, SaveLatest, ScoreTasks, StopAfter, WriteJSON
from emloop_mtl.schedulers import AbstractTaskScheduler
from emloop_mtl.tasks import Task
from emloop_mtl.testing import SaveAndFail

from ..cli.same_runs import what_differs

SCHEDULERS = sorted(
    name
    for name in schedulers.__all__
    if inspect.isclass(getattr(schedulers, name))
    and issubclass(getattr(schedulers, name), AbstractTaskScheduler)
    and not inspect.isabstract(getattr(schedulers, name))
)


def weights_by_loss(numbers: dict[str, float]) -> dict[str, float]:
    return {name: numbers["model/all/valid/loss"] + index for index, name in enumerate(SIZES)}


SIZES = {"digits": 10, "letters": 6}


class TwoTables(MultiTaskDataset):
    """Tables of 10 and 6 rows; two in a batch."""

    def loaders(self) -> Iterator[TaskLoader]:
        for name, size in SIZES.items():
            for split in ("train", "valid"):
                x = torch.randn(size, 3, generator=torch.Generator().manual_seed(len(name + split)))
                data = ColumnDataset(name, {"x": x}, {name: x.argmax(1)})
                yield TaskLoader(data, {name: name}, split=split, batch_size=2)


class Order(SaveAndFail):
    """Note what is trained on, beside saving and failing."""

    def __init__(self, every: int = 1000, fail_at: int | None = None) -> None:
        super().__init__(every=every, fail_at=fail_at)
        self.rows: list[Any] = []

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        if self.main_loop.is_training:
            parts = () if batch_data.mix is None else batch_data.mix.parts
            loaders = tuple(part.data_name for part in parts) or (batch_data.data_name,)
            self.rows.append((loaders, batch_data["_uids_"].tolist(), batch_data.ends_step))
        super().after_batch(stream_name, batch_data)


def scheduler_of(name: str) -> AbstractTaskScheduler:
    """Build the example in the docstring of a scheduler; with fewer batches in a pass, and a function of ours."""
    kind = getattr(schedulers, name)
    match = re.search(r"^\.\. code-block:: yaml\n((?:\n| {4}.*(?:\n|$))*)", inspect.getdoc(kind) or "", re.MULTILINE)
    assert match, f"the docstring of {name} has no example"
    options = dict(YAML(typ="safe").load(textwrap.dedent(match[1])))
    assert options.pop("class") == name
    if "batches_per_pass" in options:
        options["batches_per_pass"] = 7
    if "function" in options:
        options["function"] = weights_by_loss
    scheduler: AbstractTaskScheduler = kind(**options)
    return scheduler


def make_loop(name: str, folder: Path, order: Order) -> MainLoop:
    torch.manual_seed(0)
    modules: dict[str, nn.Module] = {task: nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.2)) for task in SIZES}
    tasks = [
        Task(task, flow=[{"name": f"{task}_out", "module": task, "inputs": "x"}], label=task, loss="cross_entropy")
        for task in SIZES
    ]
    model = MultiTaskModel(tasks, modules, optimizer={"class": "adam", "lr": 0.1}, device="cpu")
    dataset = TwoTables(streams={"train": {"scheduler": scheduler_of(name)}})
    hooks = [Evaluate(["valid"]), ScoreTasks(), ComputeStats(["loss"]), WriteJSON(), SaveLatest(every=100)]
    return MainLoop(model, dataset, [*hooks, order, StopAfter(epochs=3)], output_dir=folder)


def test_all_schedulers_are_exported_and_documented() -> None:
    found = {
        value.__name__
        for path in Path(schedulers.__file__).parent.glob("*.py")
        for value in vars(__import__(f"emloop_mtl.schedulers.{path.stem}", fromlist=["*"])).values()
        if inspect.isclass(value) and issubclass(value, AbstractTaskScheduler) and not inspect.isabstract(value)
    }
    assert found == set(SCHEDULERS)
    for name in SCHEDULERS:
        scheduler_of(name)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_training_that_breaks_off_in_mid_epoch_goes_on_from_a_file(name: str, tmp_path: Path) -> None:
    order = Order()
    whole = make_loop(name, tmp_path / "whole", order)
    whole.run_training()
    assert whole.end == "finished"
    assert {loader for loaders, _, _ in order.rows for loader in loaders} == set(SIZES)
    for moment in (order.moments // 2, order.moments * 3 // 4, order.moments - 1):
        folder, first, rest = tmp_path / str(moment), Order(every=moment - 1, fail_at=moment), Order()
        with pytest.raises(RuntimeError, match="failed at moment"):
            make_loop(name, folder, first).run_training()
        checkpoint = newest_checkpoint(folder / "checkpoints", "latest")
        resumed = make_loop(name, folder, rest)
        resumed.restore(checkpoint)
        resumed.run_training()
        assert order.rows[len(order.rows) - len(rest.rows) :] == rest.rows
        assert what_differs(folder, tmp_path / "whole") == [], f"moment {moment}"
