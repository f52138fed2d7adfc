from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from emloop_mtl.tasks import Action, Task
from emloop_mtl.tasks.stack_signature import module_signature
from emloop_mtl.tasks.stackable import find_stacks
from emloop_mtl.tasks.stacked_tail import StackedTail
from emloop_mtl.tasks.task_network import TaskNetwork


def head(width: int = 3) -> nn.Module:
    return nn.Linear(4, width)


def make_task(name: str, module: nn.Module | None = None, start: Any = "features", **options: Any) -> Task:
    flow = [Action("features", "trunk", "x"), Action(f"{name}_out", f"{name}_head", start)]
    settings = {"flow": flow, "label": "y", "loss": "cross_entropy", **options}
    return Task(name, {f"{name}_head": module or head()}, **settings)


def stacks(*tasks: Task, **modules: nn.Module) -> list[list[str]]:
    network = TaskNetwork(tasks, {"trunk": nn.Linear(2, 4), **modules})
    found = find_stacks(tasks, network, {}, tasks)
    return [[task.name for task in alike] for alike in found]


def three(**options: Any) -> list[Task]:
    return [make_task(name, **options) for name in "abc"]


def test_equal_heads_are_found() -> None:
    assert stacks(*three()) == [["a", "b", "c"]]


def test_order_is_that_of_the_tasks_and_kinds_stand_apart() -> None:
    tasks = [make_task(f"t{number}", head(3 if number % 2 else 5)) for number in range(6)]
    assert stacks(*tasks) == [["t0", "t2", "t4"], ["t1", "t3", "t5"]]


@pytest.mark.parametrize(
    "options",
    [
        {"loss": "mse_loss"},
        {"loss": lambda outputs, label: outputs["d_out"].sum()},
        {"loss": nn.CrossEntropyLoss()},
        {"loss": None},
        {"output": "identity"},
        {"output": lambda outputs: outputs["d_out"]},
        {"missing_label": -100},
        {"num_classes": 2},
        {"start": "x2"},
        {"start": ["features", "x2"]},
        {"start": None},
        {"start": "features[0]"},
        {"module": nn.Linear(4, 3, bias=False)},
        {"module": nn.Linear(4, 3).double()},
        {"module": nn.Sequential(nn.Linear(4, 3))},
        {"module": nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.0))},
        {"module": nn.Linear(4, 3).requires_grad_(False)},
        {"module": nn.Bilinear(4, 4, 3)},
        {"module": torch.nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))},
    ],
    ids=lambda options: "-".join(map(str, options)),
)
def test_what_differs_runs_apart(options: dict[str, Any]) -> None:
    other = make_task("d", **options)
    assert stacks(*three(), other) == [["a", "b", "c"]]


def test_a_partial_with_the_same_options_is_the_same_loss() -> None:
    from functools import partial

    tasks = three(loss=partial(functional.cross_entropy, label_smoothing=0.1))
    weighing = three(loss=partial(functional.cross_entropy, weight=torch.ones(3)))
    # The mean of the rows that are left is not the mean of all rows.
    leaving_out = three(loss=partial(functional.cross_entropy, ignore_index=1))
    assert stacks(*tasks) == [["a", "b", "c"]]
    assert stacks(*weighing) == stacks(*leaving_out) == []


def test_weights_of_tasks_may_differ() -> None:
    tasks = [make_task(name, weight=weight) for name, weight in (("a", 1.0), ("b", 0.0), ("c", 2.0))]
    assert stacks(*tasks) == [["a", "b", "c"]]


def test_tasks_of_a_class_of_ones_own_run_apart() -> None:
    class Own(Task):
        pass

    features = Action("features", "trunk", "x")
    own = [
        Own(name, {f"{name}_head": head()}, [features, Action(f"{name}_out", f"{name}_head", "features")], "y", "nll")
        for name in "def"
    ]
    assert stacks(*three(), *own) == [["a", "b", "c"]]


def test_shared_weights_run_apart() -> None:
    tied = head(), head()
    tied[1].weight = tied[0].weight
    tasks = [*three(), make_task("d", tied[0]), make_task("e", tied[1]), make_task("f", tied[0])]
    assert stacks(*tasks) == [["a", "b", "c"]]


def test_weights_that_share_their_memory_run_apart() -> None:
    tied = [head() for _ in range(3)]
    for other in tied[1:]:
        other.weight.data = tied[0].weight.data
    tasks = [*three(), *(make_task(name, module) for name, module in zip("def", tied, strict=True))]
    assert stacks(*tasks) == [["a", "b", "c"]]


def test_one_module_for_several_tasks_runs_apart() -> None:
    tasks = three()
    for name in "de":
        flow = [Action("features", "trunk", "x"), Action(f"{name}_out", "a_head", "features")]
        tasks.append(Task(name, flow=flow, label="y", loss="cross_entropy"))
    assert stacks(*tasks) == []


def test_a_chain_of_actions_is_one_tail() -> None:
    def chain(name: str) -> Task:
        flow = [
            Action("features", "trunk", "x"),
            Action(f"{name}_hidden", f"{name}_layer", "features"),
            Action(f"{name}_active", f"{name}_relu", f"{name}_hidden"),
            Action(f"{name}_out", f"{name}_head", f"{name}_active"),
        ]
        modules = {f"{name}_layer": nn.Linear(4, 4), f"{name}_relu": nn.ReLU(), f"{name}_head": head()}
        return Task(name, modules, flow=flow, label="y", loss="cross_entropy")

    assert stacks(*map(chain, "abc")) == [["a", "b", "c"]]


def test_a_branch_is_no_tail() -> None:
    def branch(name: str) -> Task:
        flow = [
            Action("features", "trunk", "x"),
            Action(f"{name}_side", f"{name}_layer", "features"),
            Action(f"{name}_out", f"{name}_head", "features"),
        ]
        modules = {f"{name}_layer": nn.Linear(4, 4), f"{name}_head": head()}
        return Task(name, modules, flow=flow, label="y", loss="cross_entropy")

    assert stacks(*map(branch, "abc")) == []


def test_modules_on_devices_of_their_own_run_apart() -> None:
    assert stacks(*three(), make_task("d", module_device={"d_head": -1})) == []


def test_what_changes_the_shared_value_in_place_runs_apart() -> None:
    tasks = [make_task(name, nn.Sequential(nn.ReLU(inplace=True), head())) for name in "abc"]
    assert stacks(*tasks) == []


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Linear(4, 3),
        lambda: nn.Sequential(nn.ReLU(), nn.Linear(4, 5), nn.SiLU(), nn.Linear(5, 3, bias=False)),
        lambda: nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 6), nn.LayerNorm(6, eps=0.1), nn.Softplus(2.0)),
        lambda: nn.Sequential(nn.LayerNorm(4, elementwise_affine=False), nn.LayerNorm(4, bias=False), nn.ELU(0.5)),
        lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Sequential(nn.Linear(4, 2), nn.Identity())),
    ],
)
@pytest.mark.parametrize("shape", [(7, 4), (2, 5, 4), (1, 4)])
def test_a_tail_computes_what_its_modules_compute(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    modules = [make().double() for _ in range(3)]
    for parameter in (p for module in modules for p in module.parameters()):
        nn.init.normal_(parameter)
    value = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    wanted = [module(value) for module in modules]
    (wanted_gradient,) = torch.autograd.grad(sum(((n + 1) * out**2).sum() for n, out in enumerate(wanted)), value)
    assert len({module_signature(module) for module in modules}) == 1
    tail = StackedTail([[(f"head{number}", module)] for number, module in enumerate(modules)])
    assert tail.is_intact()
    values = tail(value)
    got = [tail.part(values, 0, number) for number in range(3)]
    (gradient,) = torch.autograd.grad(sum(((n + 1) * out**2).sum() for n, out in enumerate(got)), value)
    for one, other in [*zip(got, wanted, strict=True), (gradient, wanted_gradient)]:
        # float64 rounds in the 16th digit
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    names = {name for parameter in tail.parameters for name in parameter.name.members}
    assert names == {f"head{n}.{name}" for n, module in enumerate(modules) for name, _ in module.named_parameters()}
