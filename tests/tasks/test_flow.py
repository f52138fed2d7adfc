from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from emloop_mtl.errors import ConfigError, DataError
from emloop_mtl.tasks.action import Action
from emloop_mtl.tasks.flow import check_flow
from emloop_mtl.tasks.plan import Plan
from emloop_mtl.tasks.task import Task


class Calls:
    """A module by hand: remembers its calls and returns a word that says what it was called with."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0

    def __call__(self, *arguments: Any) -> str:
        self.count += 1
        return f"{self.name}({','.join(map(str, arguments))})"


def task(name: str, *flow: Action, **options: Any) -> Task:
    return Task(name, flow=flow, **options)


TRUNK = Action("features", "trunk", "image")


def test_an_action_of_one_name_runs_once_for_all_tasks() -> None:
    a = task("a", TRUNK, Action("a_logits", "a_head", "features"))
    b = task("b", TRUNK, Action("b_logits", "b_head", ["features", "text"]))
    modules = {name: Calls(name) for name in ("trunk", "a_head", "b_head")}
    check_flow([a, b], modules, {"image", "text"})
    plan = Plan([a, b])
    outputs = plan.run(modules, {"image": "i", "text": "t", "unused": "u"})
    assert dict(outputs) == {
        "_input_": {"image": "i", "text": "t", "unused": "u"},
        "features": "trunk(i)",
        "a_logits": "a_head(trunk(i))",
        "b_logits": "b_head(trunk(i),t)",
    }
    assert {name: module.count for name, module in modules.items()} == {"trunk": 1, "a_head": 1, "b_head": 1}
    assert plan.sources == ("image", "text")
    assert plan.action_names == ("features", "a_logits", "b_logits")
    assert plan.module_names == ("trunk", "a_head", "b_head")
    assert not plan.takes_all_sources


@given(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=6, unique=True), min_size=1, max_size=4))
def test_any_sharing_runs_each_action_once_and_gives_what_a_task_gets_alone(flows: list[list[int]]) -> None:
    """Actions 0..5, of which the k-th takes all lower ones of its flow that are always there: none but the source."""
    tasks = [
        task(f"t{number}", *(Action(f"a{index}", f"m{index}", ["x"]) for index in sorted(flow)))
        for number, flow in enumerate(flows)
    ]
    modules = {f"m{index}": Calls(f"m{index}") for index in range(6)}
    check_flow(tasks, modules)
    together = Plan(tasks).run(modules, {"x": "1"})
    used = {f"m{index}" for flow in flows for index in flow}
    assert {name for name, module in modules.items() if module.count} == used
    assert all(module.count <= 1 for module in modules.values())
    for each in tasks:
        alone = Plan([each]).run(modules, {"x": "1"})
        assert {name: together[name] for name in alone} == dict(alone)


def test_without_inputs_a_module_gets_the_outputs_of_its_own_flow() -> None:
    seen: list[dict[str, Any]] = []
    a = task("a", TRUNK)
    b = task("b", Action("text_features", "m", "text"), Action("last", "all", []))
    modules = {"trunk": Calls("trunk"), "m": Calls("m"), "all": lambda outputs: seen.append(outputs) or "done"}
    plan = Plan([a, b])
    batch = {"image": "i", "text": "t"}
    assert plan.run(modules, batch)["last"] == "done"
    assert seen == [{"_input_": batch, "text_features": "m(t)"}]
    assert plan.takes_all_sources


def test_parts_of_outputs_and_certain_sources_are_resolved() -> None:
    flow = [
        Action("pair", "make", "x"),
        Action("first", "m", ["pair[0]", ("pair", 1), "_input_.x"]),
        Action("whole", "m", "_input_"),
    ]
    modules = {"make": lambda x: (x, x + 1), "m": lambda *arguments: arguments}
    outputs = Plan([task("a", *flow)]).run(modules, {"x": 1})
    assert outputs["first"] == (1, 2, 1)
    assert outputs["whole"] == ({"x": 1},)


def test_modules_are_called_so_that_hooks_fire() -> None:
    fired: list[str] = []
    module = nn.Linear(2, 1)
    module.register_forward_hook(lambda *_: fired.append("fired"))
    Plan([task("a", TRUNK)]).run({"trunk": module}, {"image": torch.ones(1, 2)})
    assert fired == ["fired"]


@pytest.mark.parametrize(
    ("flows", "message"),
    [
        ([[Action("a", "trunc", "image")]], "task 't0': action 'a': no module 'trunc'; did you mean 'trunk'"),
        ([[Action("a", "trunk", "imagee")]], "input 'imagee': there is no such source or earlier action; did you mean"),
        ([[Action("a", "trunk", "_input_.imagee")]], "there is no source 'imagee'; did you mean 'image'"),
        ([[Action("a", "trunk", "b"), Action("b", "trunk", "image")]], "input 'b': it is made by a later action"),
        ([[Action("a", "trunk", "a")]], "input 'a': it is made by this action itself"),
        ([[Action("image", "trunk", "text")]], "action 'image' is called like a source"),
        ([[TRUNK, TRUNK]], "two actions are called 'features'"),
        ([[TRUNK], [Action("features", "other", "image")]], "another module or other inputs than in task 't0'"),
        ([[TRUNK], [Action("features", "trunk", "text")]], "another module or other inputs than in task 't0'"),
        ([[TRUNK], [Action("b", "trunk", "features")]], "only task 't0' has an action 'features'"),
    ],
)
def test_a_flow_that_cannot_be_run_is_refused(flows: Sequence[Sequence[Action]], message: str) -> None:
    tasks = [task(f"t{number}", *flow) for number, flow in enumerate(flows)]
    with pytest.raises(ConfigError, match=message):
        check_flow(tasks, {"trunk", "other"}, {"image", "text"})


def test_without_known_sources_wrong_names_are_still_found_where_they_can_be() -> None:
    check_flow([task("a", Action("a", "trunk", "anything"))], {"trunk"})
    with pytest.raises(ConfigError, match="called like a source"):
        check_flow([task("a", Action("a", "trunk", "_input_.a"))], {"trunk"})
    with pytest.raises(ConfigError, match="made by a later action"):
        check_flow([task("a", Action("a", "trunk", "b"), Action("b", "trunk", "x"))], {"trunk"})


def test_an_unknown_module_in_module_device_is_refused() -> None:
    with pytest.raises(ConfigError, match="module_device: no module 'trunc'; did you mean 'trunk'"):
        check_flow([task("a", TRUNK, module_device={"trunc": "cpu"})], {"trunk"})


def test_a_missing_source_names_task_action_and_the_nearest() -> None:
    with pytest.raises(
        DataError, match=r"task 'a', action 'features': the batch holds no source 'image'; did you mean"
    ):
        Plan([task("a", TRUNK)]).run({"trunk": Calls("trunk")}, {"images": 1})


def test_a_missing_part_names_task_and_action() -> None:
    plan = Plan([task("a", TRUNK, Action("b", "m", "features[2]"))])
    with pytest.raises(
        ConfigError, match=r"task 'a', action 'b', inputs 'features\[2\]': there is no item 2 in a list"
    ):
        plan.run({"trunk": lambda _: [1, 2], "m": Calls("m")}, {"image": 1})


def test_an_error_inside_a_module_keeps_its_type_and_says_where() -> None:
    plan = Plan([task("a", TRUNK)])
    with pytest.raises(RuntimeError) as caught:
        plan.run({"trunk": nn.Linear(3, 1)}, {"image": torch.ones(1, 2)})
    assert caught.value.__notes__ == ["in task 'a', action 'features', module 'trunk'"]


def test_inputs_are_moved_to_the_device_of_their_module() -> None:
    plan = Plan([task("a", TRUNK)], {"trunk": torch.device("meta")})
    seen: list[Any] = []
    batch = {"image": {"x": torch.ones(2), "n": (torch.ones(1), [torch.ones(1)]), "text": "t"}}
    plan.run({"trunk": seen.append}, batch)
    assert seen[0]["x"].device.type == seen[0]["n"][0].device.type == seen[0]["n"][1][0].device.type == "meta"
    assert seen[0]["text"] == "t"
    assert batch["image"]["x"].device.type == "cpu"
