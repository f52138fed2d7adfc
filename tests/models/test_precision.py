"""bf16 and fp16 go through torch.amp wherever a flow is run."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from emloop_mtl.data.batch import Batch
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.tasks import Action, Task

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Watched(nn.Linear):
    """A layer that notes what it computed in, and where."""

    seen: list[tuple[torch.dtype, bool]]

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        self.seen.append((out.dtype, torch.is_autocast_enabled("cpu")))
        return out


def make_model(precision: str, **options: Any) -> MultiTaskModel:
    torch.manual_seed(0)
    modules = {"trunk": Watched(3, 4), "a_head": nn.Linear(4, 2), "b_head": nn.Linear(4, 2)}
    modules["trunk"].seen = []
    tasks = [
        Task(n, flow=[Action("f", "trunk", "x"), Action(f"{n}_out", f"{n}_head", "f")], label=n, loss="cross_entropy")
        for n in "ab"
    ]
    options = {"optimizer": {"class": "adam", "lr": 0.1}, **options}
    return MultiTaskModel(tasks, modules, device="cpu", precision=precision, **options)


def make_batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    labels = {name: torch.randint(2, (8,), generator=generator) for name in "ab"}
    return Batch({"x": torch.randn(8, 3, generator=generator), **labels}, tasks={name: name for name in "ab"})


@pytest.mark.parametrize("stack_tasks", [True, False])
@pytest.mark.parametrize("precision", DTYPES)
def test_training_evaluation_and_prediction_compute_in_it(precision: str, stack_tasks: bool) -> None:
    model = make_model(precision, stack_tasks=stack_tasks)
    outputs = [model.run(make_batch(), train=train) for train in (True, True, False)]
    model.predict([make_batch()])
    model.score({"valid": [make_batch()]})
    seen = model.network["trunk"].seen
    assert len(seen) >= 5
    assert set(seen) == {(DTYPES[precision], precision != "fp32")}
    assert not torch.is_autocast_enabled("cpu")
    for named in outputs:
        assert {named[name].dtype for name in ("loss", "a/loss", "a/prob")} == {torch.float32}
    assert {weight.dtype for weight in model.state_dict().values()} == {torch.float32}


def test_fp32_never_makes_an_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(torch, "autocast", lambda *args: made.append(args) or nullcontext())  # type: ignore[func-returns-value]
    model = make_model("fp32")
    for train in (True, False):
        model.run(make_batch(), train=train)
    assert made == []


def test_bf16_makes_one_autocast_for_all_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    original = torch.autocast
    monkeypatch.setattr(torch, "autocast", lambda *args: made.append(args) or original(*args))  # type: ignore[func-returns-value]
    model = make_model("bf16", stack_tasks=False)
    for _ in range(5):
        model.run(make_batch(), train=True)
    assert made == [("cpu", torch.bfloat16)]


def test_fp16_learns_on_the_cpu_too() -> None:
    model = make_model("fp16")
    losses = [float(model.run(make_batch(), train=True)["loss"]) for _ in range(20)]
    assert losses[-1] < 0.8 * losses[0]  # by far more than fp16 rounds, which has 11 bits
