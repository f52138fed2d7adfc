from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from emloop_mtl.optim.optimizer_step import OptimizerStep


def sgd(kind: Any = torch.optim.SGD) -> Any:
    weight = nn.Parameter(torch.tensor(1.0))
    weight.grad = torch.tensor(1.0)
    return kind([weight], lr=0.25)


def weight_of(optimizer: torch.optim.Optimizer) -> float:
    return float(optimizer.param_groups[0]["params"][0].item())


def profiled_names(step: OptimizerStep) -> set[str]:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        step()
    return {event.key for event in profile.key_averages()}


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.Adafactor])
def test_it_updates_as_the_optimizer_does(kind: Any) -> None:
    optimizer, twin = sgd(kind), sgd(kind)
    step = OptimizerStep(optimizer)
    for _ in range(3):
        step()
        twin.step()
    assert weight_of(optimizer) == weight_of(twin) != 1.0


def test_nothing_is_told_to_a_profiler_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise AssertionError("the wrapper was called")

    optimizer = sgd()
    step, before = OptimizerStep(optimizer), weight_of(optimizer)
    monkeypatch.setattr(torch.autograd.profiler, "record_function", fail)
    step()
    assert weight_of(optimizer) != before


def test_a_profiler_sees_the_step() -> None:
    assert "Optimizer.step#SGD.step" in profiled_names(OptimizerStep(sgd()))


@pytest.mark.parametrize(
    "register",
    [
        lambda optimizer, hook: optimizer.register_step_pre_hook(hook),
        lambda optimizer, hook: optimizer.register_step_post_hook(hook),
        lambda optimizer, hook: register_optimizer_step_pre_hook(hook),
        lambda optimizer, hook: register_optimizer_step_post_hook(hook),
    ],
)
def test_hooks_registered_at_any_time_are_called(register: Any) -> None:
    optimizer = sgd()
    step = OptimizerStep(optimizer)
    step()
    calls: list[Any] = []
    handle = register(optimizer, lambda *args: calls.append(args[0]))
    try:
        step()
    finally:
        handle.remove()
    step()
    assert calls == [optimizer]


def test_a_step_of_the_object_and_one_of_the_class_are_called() -> None:
    class Mine(torch.optim.SGD):
        pass

    optimizer = sgd(Mine)
    step = OptimizerStep(optimizer)
    calls = []
    optimizer.step = lambda: calls.append("object")
    step()
    del optimizer.step
    Mine.step = lambda self: calls.append("class")  # type: ignore[method-assign,assignment,misc]
    step()
    assert calls == ["object", "class"]
    assert weight_of(optimizer) == 1.0


def test_torchs_schedulers_count_the_steps() -> None:
    optimizer = sgd()
    step = OptimizerStep(optimizer)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    step()
    schedule.step()  # warns, which fails the test, if it has seen no step
    assert weight_of(optimizer) == 0.75


def test_a_step_that_calls_itself_a_wrapper_of_another_is_not_passed_over() -> None:
    class Twice(torch.optim.SGD):
        @functools.wraps(torch.optim.SGD.step)
        def step(self, closure: Any = None) -> Any:
            super().step(closure)
            return super().step(closure)

    optimizer = sgd(Twice)
    OptimizerStep(optimizer)()
    assert weight_of(optimizer) == 0.5
