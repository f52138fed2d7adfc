"""How large a checkpoint will be is told before the first update."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from emloop_mtl.checkpoint import list_checkpoints
from emloop_mtl.hooks import SaveEvery, StopAfter
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.optim.optimizer_bytes import optimizer_bytes
from emloop_mtl.optim.optimizers import optimizer_classes
from emloop_mtl.tasks.task import Task
from emloop_mtl.testing import FakeDataset

OTHERS: dict[str, list[dict[str, Any]]] = {
    "sgd": [{"momentum": 0.9}],
    "adam": [{"amsgrad": True}],
    "adamw": [{"amsgrad": True}],
    "rmsprop": [{"momentum": 0.5}, {"centered": True}, {"momentum": 0.5, "centered": True}],
    "lbfgs": [{"history_size": 3}],
}

CASES = [
    (name, options)
    for name in sorted(optimizer_classes())
    if name != "sparseadam"  # it takes gradients of embeddings only
    for options in [{}, *OTHERS.get(name, [])]
]


@pytest.mark.parametrize(("name", "options"), CASES, ids=[f"{name}-{'-'.join(options)}" for name, options in CASES])
def test_what_each_optimizer_keeps(name: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    parameter = nn.Parameter(torch.randn(64, 32))
    frozen = nn.Parameter(torch.randn(64, 32), requires_grad=False)
    trained = [parameter] if name == "lbfgs" else [parameter, frozen]  # which counts what is frozen, too
    optimizer = optimizer_classes()[name](trained, lr=0.01, **options)
    expected = optimizer_bytes(optimizer)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (parameter**4).sum() + parameter.sin().prod()
        loss.backward()
        return loss

    for _ in range(10):  # enough for the whole history of lbfgs
        optimizer.step(closure)  # type: ignore[arg-type] # LBFGS takes a tensor
    kept: list[torch.Tensor] = []
    for value in optimizer.state[parameter].values():
        kept += [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, torch.Tensor)]
    found = sum(tensor.nbytes for tensor in kept)
    # beside what there is of each number: steps, a row and a column of 96 numbers, or lengths of a history
    assert expected <= found <= expected + 2000 or (name == "lbfgs" and expected == pytest.approx(found, rel=0.05))


def test_one_of_ones_own_counts_as_adam() -> None:
    class Own(torch.optim.Optimizer):
        def __init__(self, params: Any) -> None:
            super().__init__(params, {"lr": 0.1})

    class OwnSGD(torch.optim.SGD):
        pass

    parameter = nn.Parameter(torch.zeros(10))
    assert optimizer_bytes(Own([parameter])) == 2 * 40
    assert optimizer_bytes(OwnSGD([parameter], lr=0.1, momentum=0.9)) == 40


@pytest.mark.parametrize("accumulate", [1, 4])
def test_a_checkpoint_is_as_large_as_was_told(accumulate: int, tmp_path: Path) -> None:
    def model() -> MultiTaskModel:
        head = nn.Sequential(nn.Linear(200, 200), nn.BatchNorm1d(200), nn.Linear(200, 200))
        head[2].weight = head[0].weight  # counts once
        task = Task(
            "t",
            modules={"head": head},
            flow=[{"name": "o", "module": "head", "inputs": "x"}],
            label="y",
            loss="mse_loss",
        )
        return MultiTaskModel([task], optimizer="adam", update={"accumulate": accumulate}, device="cpu")

    expected = model().checkpoint_bytes()
    batch = {"x": torch.randn(4, 200), "y": torch.randn(4, 200)}
    hooks = [SaveEvery(steps=5), StopAfter(steps=6)]  # in step 5 a window of 4 is open
    loop = MainLoop(model(), FakeDataset(train=[batch] * 7), hooks, skip_zeroth_epoch=True, output_dir=tmp_path)
    loop.run_training()
    (path,) = list_checkpoints(tmp_path / "checkpoints")
    size = sum(file.stat().st_size for file in path.iterdir())
    # beside the tensors: headers, the manifest and the states of random generators, some 15 kB
    assert expected < size < expected + 40_000
