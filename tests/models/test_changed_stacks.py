"""Tasks that run as one until somebody changes or watches their modules, their gradients or themselves."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

from emloop_mtl.data.stream_wrapper import StreamWrapper
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.models.task_stacks import MOST_CHANGES
from emloop_mtl.tasks import Action, Task

from .stacks import (
    ALL,
    MakeBatch,
    MakeHeads,
    append,
    assign,
    change_the_gradient,
    constrain,
    exchange,
    freeze,
    move,
    override,
    watch,
    watch_backward,
    watch_the_gradient,
)


@pytest.mark.parametrize(
    "change",
    [watch, watch_backward, watch_the_gradient, change_the_gradient, freeze, assign, move, append, exchange, override],
    ids=lambda change: change.__name__,
)
def test_a_module_that_somebody_has_changed_runs_apart(
    make_heads: MakeHeads, make_batch: MakeBatch, change: Callable[[MultiTaskModel], None]
) -> None:
    together, apart = (make_heads(optimizer="adamw", stack_tasks=stack) for stack in (True, False))
    for step in range(6):
        if step == 3:
            assert together.stacked_tasks == ALL
            for model in (together, apart):
                change(model)
        outputs = []
        for model in (together, apart):
            torch.manual_seed(step)
            outputs.append(model.run(make_batch(seed=step), train=True))
        # As the weights below.
        torch.testing.assert_close(outputs[0]["t1/loss"], outputs[1]["t1/loss"], rtol=1e-11, atol=1e-11)
    assert together.stacked_tasks == (ALL if change is move else [("t0", "t2", "t3")])
    for name, weight in apart.state_dict().items():
        # float64 rounds in the 16th digit; Adam divides by roots of small numbers
        torch.testing.assert_close(together.state_dict()[name], weight, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("change", [change_the_gradient, freeze, move], ids=lambda change: change.__name__)
def test_what_changes_inside_an_epoch_counts_from_the_next_batch_on(
    make_heads: MakeHeads, make_batch: MakeBatch, change: Callable[[MultiTaskModel], None]
) -> None:
    """As a hook may, which is called after every batch of a stream."""
    weights = []
    for stack in (True, False):
        model, stream = make_heads(stack_tasks=stack), StreamWrapper(lambda: (), name="train")
        for step in range(6):
            if step == 3:
                change(model)
            model.run(make_batch(seed=step), train=True, stream=stream)
        weights.append(model.state_dict())
    for name, weight in weights[1].items():
        # float64 rounds in the 16th digit; Adam divides by roots of small numbers
        torch.testing.assert_close(weights[0][name], weight, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("change", [watch, watch_the_gradient, override, constrain], ids=lambda change: change.__name__)
def test_what_is_watched_from_the_beginning_is_never_stacked(
    make_heads: MakeHeads, make_batch: MakeBatch, change: Callable[[MultiTaskModel], None]
) -> None:
    model = make_heads()
    change(model)
    model.run(make_batch(), train=True)
    assert model.stacked_tasks == [("t0", "t2", "t3")]


def test_modules_that_change_again_and_again_run_apart_for_good(
    make_heads: MakeHeads, make_batch: MakeBatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = make_heads()
    with caplog.at_level(logging.INFO, logger="emloop_mtl.models.task_stacks"):
        for step in range(2 * MOST_CHANGES):
            model.run(make_batch(seed=step), train=True)
            move(model)
    assert model.stacked_tasks == []
    assert len(caplog.messages) == 2 * MOST_CHANGES
    resumed = make_heads()
    resumed.load_training_state_dict(model.training_state_dict())
    resumed.run(make_batch(), train=True)
    assert resumed.stacked_tasks == []


@pytest.mark.parametrize("accumulate", [1, 3])
def test_gradients_that_somebody_gives_to_heads_count(
    make_heads: MakeHeads, make_batch: MakeBatch, accumulate: int
) -> None:
    weights = []
    for stack in (True, False):
        model = make_heads(stack_tasks=stack, update={"accumulate": accumulate})
        for step in range(7):
            model.run(make_batch(seed=step), train=True)
            heads = [model.network[f"t{number}_head"][0] for number in ((1,) if step < 4 else range(4))]
            torch.stack([head.weight.square().sum() for head in heads]).sum().backward()
        weights.append(model.state_dict())
    for name, weight in weights[1].items():
        # float64 rounds in the 16th digit; Adam divides by roots of small numbers
        torch.testing.assert_close(weights[0][name], weight, rtol=1e-11, atol=1e-11)


def test_a_hook_on_a_head_sees_every_batch(make_heads: MakeHeads, make_batch: MakeBatch) -> None:
    model = make_heads()
    model.run(make_batch(), train=True)
    seen: list[torch.Size] = []
    model.network["t1_head"].register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    model.run(make_batch(), train=True)
    model.run(make_batch(), train=False)
    assert seen == [torch.Size([7, 3])] * 2


def test_whoever_watches_the_optimizer_sees_every_parameter(make_heads: MakeHeads, make_batch: MakeBatch) -> None:
    model = make_heads()
    model.run(make_batch(), train=True)
    seen: list[int] = []
    handle = model.optimizer.register_step_pre_hook(
        lambda optimizer, *_: seen.append(sum(p.grad is not None for p in model.network.parameters()))
    )
    model.run(make_batch(), train=True)
    assert seen == [len(list(model.network.parameters()))]
    assert model.stacked_tasks == []
    handle.remove()


@pytest.mark.parametrize("kind", ["add", "update", "remove"])
def test_changed_tasks_are_looked_at_anew(make_heads: MakeHeads, make_batch: MakeBatch, kind: str) -> None:
    model = make_heads()
    model.run(make_batch(), train=True)
    flow = [Action("features", "trunk", "x"), Action("t0_out", "t0_head", "features")]
    if kind == "add":  # which now shares the action of another
        model.network.add_tasks(Task("t4", flow=flow, label="t4", loss="cross_entropy"))
    elif kind == "update":
        model.network.update_task(Task("t0", flow=flow, label="t0", loss="cross_entropy"))
    else:
        model.network.remove_task("t0")
    carried = ["t1", "t2", "t3"] if kind == "remove" else ["t0", "t1", "t2", "t3"]
    model.run(make_batch(carried), train=True)
    assert model.stacked_tasks == [("t1", "t2", "t3")]


def test_a_weight_may_change_at_any_time(make_heads: MakeHeads, make_batch: MakeBatch) -> None:
    together, apart = (make_heads(stack_tasks=stack) for stack in (True, False))
    for step in range(5):
        for model in (together, apart):
            model.tasks["t1"].weight = 10.0 * (step // 2)
            model.run(make_batch(seed=step, missing=0.4 * (step % 2)), train=True)
    for name, weight in apart.state_dict().items():
        # float64 rounds in the 16th digit; Adam divides by roots of small numbers
        torch.testing.assert_close(together.state_dict()[name], weight, rtol=1e-11, atol=1e-11)


@pytest.fixture(autouse=True)
def _no_global_hooks() -> Iterator[None]:
    yield
    assert not torch.nn.modules.module._global_forward_hooks


def test_whoever_watches_every_module_sees_every_head(make_heads: MakeHeads, make_batch: MakeBatch) -> None:
    model = make_heads()
    model.run(make_batch(), train=True)
    seen: list[nn.Module] = []
    handle = nn.modules.module.register_module_forward_hook(lambda module, inputs, output: seen.append(module))
    try:
        model.run(make_batch(), train=True)
    finally:
        handle.remove()
    assert all(model.network[f"t{n}_head"] in seen for n in range(4))
