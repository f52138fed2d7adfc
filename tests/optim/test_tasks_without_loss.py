"""Tasks that have no loss contribute nothing; if none has one, there is nothing to learn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from emloop_mtl.data.abstract_dataset import AbstractDataset
from emloop_mtl.data.batch import Batch
from emloop_mtl.data.column_dataset import ColumnDataset
from emloop_mtl.data.multi_task_dataset import MultiTaskDataset
from emloop_mtl.data.task_loader import TaskLoader
from emloop_mtl.errors import ConfigError
from emloop_mtl.hooks import StopAfter
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.tasks import Action, Task


class Loaders(MultiTaskDataset):
    def loaders(self) -> list[TaskLoader]:
        columns = ColumnDataset("rows", {"x": torch.ones(6, 2)}, {"a": torch.arange(6) % 2, "b": torch.arange(6) % 2})
        return [TaskLoader(columns, batch_size=3, shuffle=False)]


class Streams(AbstractDataset):
    """Tells nothing of its sources beforehand."""

    def train_stream(self) -> Iterator[Any]:
        yield from Loaders().train_stream()


def make_model(a_loss: str | None, b_loss: str | None, optimizer: str = "sgd") -> MultiTaskModel:
    torch.manual_seed(0)
    modules = {f"{name}_head": nn.Linear(2, 2) for name in "ab"}
    tasks = [
        Task(name, flow=[Action(f"{name}_out", f"{name}_head", "x")], label=name, loss=loss)
        for name, loss in (("a", a_loss), ("b", b_loss))
    ]
    return MultiTaskModel(tasks, modules, optimizer=optimizer, device="cpu")


@pytest.mark.parametrize("optimizer", ["sgd", "lbfgs"])
def test_a_task_without_loss_contributes_nothing(optimizer: str) -> None:
    model = make_model("cross_entropy", None, optimizer)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    losses: list[float] = []
    run = model.run

    def record(batch: Batch, train: bool, stream: Any = None) -> dict[str, Any]:
        outputs = run(batch, train, stream)
        losses.append(float(outputs["loss"]))
        assert outputs["loss"] == outputs["a/loss"]
        assert "b/loss" not in outputs
        return outputs

    model.run = record  # type: ignore[method-assign]
    MainLoop(model, Loaders(), [StopAfter(epochs=1)], skip_zeroth_epoch=True).run_training()
    assert all(loss > 0 for loss in losses)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"a_head.weight", "a_head.bias"}


@pytest.mark.parametrize("dataset", [Loaders, Streams])
@pytest.mark.parametrize("optimizer", ["sgd", "lbfgs"])
def test_without_any_loss_there_is_nothing_to_learn(dataset: Callable[[], Any], optimizer: str) -> None:
    model = make_model(None, None, optimizer)
    loop = MainLoop(model, dataset(), [StopAfter(epochs=1)], skip_zeroth_epoch=True)
    with pytest.raises(
        ConfigError, match="no task has a loss, so there is nothing to learn; set 'loss' of a task"
    ) as e:
        loop.run_training()
    assert e.value.path == ("model", "tasks")
    assert loop.position.step == 0


def test_without_any_loss_it_can_be_evaluated() -> None:
    model = make_model(None, None)
    MainLoop(model, Loaders()).run_evaluation("train")
    assert model.predict(Loaders().loaders()[0])["a"].probs.shape == (6, 2)
