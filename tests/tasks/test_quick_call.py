"""Modules that nothing watches are called without torch's look for hooks; all others as ever."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.tasks import Action, Task
from emloop_mtl.tasks.quick_call import quick_call


def make_module() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 2)))


def test_it_returns_what_a_call_returns() -> None:
    module, value = make_module(), torch.randn(5, 3)
    assert torch.equal(quick_call(module, value), module(value))


def by_forward_hook(module: nn.Module, noted: list[str]) -> None:
    module.register_forward_hook(lambda *args: noted.append("called"))


def by_forward_pre_hook(module: nn.Module, noted: list[str]) -> None:
    module.register_forward_pre_hook(lambda *args: noted.append("called"))


def by_backward_hook(module: nn.Module, noted: list[str]) -> None:
    module.register_full_backward_hook(lambda *args: noted.append("called"))


def by_backward_pre_hook(module: nn.Module, noted: list[str]) -> None:
    module.register_full_backward_pre_hook(lambda *args: noted.append("called"))


def by_another_forward(module: nn.Module, noted: list[str]) -> None:
    forward = module.forward

    def watched(value: Tensor) -> Any:
        noted.append("called")
        return forward(value)

    module.forward = watched


def by_another_call(module: nn.Module, noted: list[str]) -> None:
    class Watched(type(module)):  # type: ignore[misc]
        def __call__(self, value: Tensor) -> Any:
            noted.append("called")
            return super().__call__(value)

    module.__class__ = Watched


def by_compiling(module: nn.Module, noted: list[str]) -> None:
    call = module._call_impl

    def compiled(value: Tensor) -> Any:
        noted.append("called")
        return call(value)

    module._compiled_call_impl = compiled  # what module.compile() sets, but for the compiler


WAYS = [
    *(by_forward_hook, by_forward_pre_hook, by_backward_hook, by_backward_pre_hook),
    *(by_another_forward, by_another_call, by_compiling),
]


@pytest.mark.parametrize("place", ["whole", "part", "part of a part"])
@pytest.mark.parametrize("watch", WAYS)
def test_whatever_watches_a_module_notices_its_call(watch: Callable[[nn.Module, list[str]], None], place: str) -> None:
    module = make_module()
    noted: list[str] = []
    watch({"whole": module, "part": module[1], "part of a part": module[1][1]}[place], noted)
    quick_call(module, torch.randn(5, 3, requires_grad=True)).sum().backward()
    assert noted == ["called"]


def test_a_replaced_part_is_called() -> None:
    module, value = make_module(), torch.randn(5, 3)
    quick_call(module, value)
    module[1] = nn.Identity()
    assert torch.equal(quick_call(module, value), module[0](value))


def test_hooks_of_all_modules_notice_the_calls_of_a_training() -> None:
    task = Task("t", {"head": make_module()}, [Action("o", "head", "x")], "y", "cross_entropy")
    model = MultiTaskModel([task], optimizer="sgd", device="cpu")
    noted: list[str] = []
    handle = register_module_forward_hook(lambda module, *args: noted.append(type(module).__name__))
    try:
        model.run({"x": torch.randn(2, 3), "y": torch.tensor([0, 1])}, train=True)  # type: ignore[arg-type]
    finally:
        handle.remove()
    assert noted == ["Linear", "ReLU", "Linear", "Sequential", "Sequential"]
    model.run({"x": torch.randn(2, 3), "y": torch.tensor([0, 1])}, train=True)  # type: ignore[arg-type]
    assert len(noted) == 5
