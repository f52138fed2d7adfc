from __future__ import annotations

import copy
import logging
from typing import Any

import pytest
import torch
from torch import nn

from emloop_mtl.errors import ConfigError
from emloop_mtl.tasks.action import Action
from emloop_mtl.tasks.task import Task
from emloop_mtl.tasks.task_network import TaskNetwork


def task(name: str, trunk: nn.Module | None = None, **options: Any) -> Task:
    modules = {f"{name}_head": nn.Linear(3, 2), **({} if trunk is None else {"trunk": trunk})}
    flow = [Action("features", "trunk", "x"), Action(f"{name}_logits", f"{name}_head", "features")]
    return Task(name, modules, flow, loss="cross_entropy", **options)


def test_the_first_definition_of_a_shared_module_holds(caplog: pytest.LogCaptureFixture) -> None:
    first, second = nn.Linear(4, 3), nn.Linear(4, 3)
    with caplog.at_level(logging.DEBUG):
        network = TaskNetwork([task("a", first), task("b", second)])
    assert network["trunk"] is first
    assert list(network.state_dict()) == [
        f"{module}.{kind}" for module in ("a_head", "trunk", "b_head") for kind in ("weight", "bias")
    ]
    assert [record.message for record in caplog.records] == [
        "task 'b': module 'trunk' is already defined, the first definition holds"
    ]


def test_forward_returns_all_action_outputs_of_the_tasks_asked_for() -> None:
    network = TaskNetwork([task("a"), task("b")], {"trunk": nn.Linear(4, 3)})
    x = torch.randn(5, 4)
    features = network["trunk"](x)
    outputs = network({"x": x})
    assert list(outputs) == ["features", "a_logits", "b_logits"]
    assert torch.equal(outputs["b_logits"], network["b_head"](features))
    assert list(network({"x": x}, ["b"])) == ["features", "b_logits"]
    with pytest.raises(ConfigError, match="the model has no task 'c'"):
        network({"x": x}, ["c"])


def test_plans_are_compiled_once_until_a_task_changes() -> None:
    network = TaskNetwork([task("a"), task("b")], {"trunk": nn.Linear(4, 3)})
    plan = network.plan(("a", "b"))
    assert network.plan(["a", "b"]) is plan
    network.remove_task("b")
    assert network.plan(("a",)).action_names == ("features", "a_logits")
    with pytest.raises(ConfigError, match="the model has no task 'b'"):
        network.plan(("a", "b"))


def test_removing_a_task_removes_what_nobody_else_uses() -> None:
    trunk = nn.Linear(4, 3)
    network = TaskNetwork([task("a", trunk), task("b")], {"spare": nn.Linear(1, 1)})
    network.remove_task("a")
    assert set(network) == {"trunk", "b_head", "spare"}
    network.remove_task("b")
    assert set(network) == {"spare"}
    with pytest.raises(ConfigError, match="the model has no task 'b'"):
        network.remove_task("b")


def test_an_updated_task_brings_its_modules() -> None:
    network = TaskNetwork([task("a"), task("b")], {"trunk": nn.Linear(4, 3)})
    new = task("a")
    network.update_task(new)
    assert network["a_head"] is new.modules["a_head"]
    assert list(network.tasks) == ["a", "b"]
    assert network.tasks["a"] is new
    with pytest.raises(ConfigError, match="the model has no task 'c'"):
        network.update_task(task("c"))


def test_a_task_that_does_not_fit_leaves_the_network_as_it_was() -> None:
    network = TaskNetwork([task("a")], {"trunk": nn.Linear(4, 3)})
    wrong = Task("b", {"other": nn.Linear(1, 1)}, [Action("features", "other", "x")])
    with pytest.raises(ConfigError, match="action 'features' has another module"):
        network.add_tasks(wrong)
    assert set(network) == {"trunk", "a_head"}
    assert list(network.tasks) == ["a"]
    with pytest.raises(ConfigError, match="two tasks called 'a'"):
        network.add_tasks(task("a"))


@pytest.mark.parametrize("name", ["forward", "a.b", "", "tasks"])
def test_a_name_that_torch_cannot_use_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a module"):
        TaskNetwork(modules={name: nn.Linear(1, 1)})


def test_the_number_of_classes_is_read_off_shared_modules_too() -> None:
    a = Task("a", flow=[Action("logits", "head", "x")], loss="cross_entropy")
    TaskNetwork([a], {"head": nn.Linear(4, 9)})
    assert a.num_classes == 9


def test_modules_go_where_they_are_told_and_inputs_follow() -> None:
    network = TaskNetwork([task("a", module_device={"a_head": "meta"})], {"trunk": nn.Linear(4, 3)})
    network.place(torch.device("cpu"))
    assert network["a_head"].weight.device.type == "meta"
    assert network["trunk"].weight.device.type == "cpu"
    outputs = network({"x": torch.ones(2, 4)})
    assert (outputs["features"].device.type, outputs["a_logits"].device.type) == ("cpu", "meta")
    with pytest.raises(ConfigError, match="module 'a_head' cannot be on cpu, another task puts it on meta"):
        network.add_tasks(task("b", module_device={"a_head": -1}))


def test_it_is_a_plain_module_that_can_be_copied_and_exported() -> None:
    network = TaskNetwork([task("a"), task("b")], {"trunk": nn.Linear(4, 3)})
    x = torch.randn(5, 4)
    expected = network({"x": x})
    twin = copy.deepcopy(network)
    assert all(torch.equal(expected[name], value) for name, value in twin({"x": x}).items())
    exported = torch.export.export(network, ({"x": x},)).module()({"x": x})
    assert all(torch.equal(expected[name], value) for name, value in exported.items())
