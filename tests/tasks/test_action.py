from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch

from emloop_mtl.errors import ConfigError
from emloop_mtl.tasks.action import Action
from emloop_mtl.tasks.action_input import ActionInput, follow


@pytest.mark.parametrize(
    ("form", "name", "path"),
    [
        ("image", "image", ()),
        ("features[0]", "features", (0,)),
        ("features[-1]", "features", (-1,)),
        ("features.hidden", "features", ("hidden",)),
        ("features['hidden']", "features", ("hidden",)),
        ("features.hidden[1]", "features", ("hidden", 1)),
        ("_input_.image", "_input_", ("image",)),
        (("features", 0), "features", (0,)),
        (("features", "hidden"), "features", ("hidden",)),
        (("_input_", "image"), "_input_", ("image",)),
        ("digit_slice:ind_1", "digit_slice:ind_1", ()),
    ],
)
def test_every_form_of_an_input_is_read(form: Any, name: str, path: tuple[Any, ...]) -> None:
    assert Action("a", "m", form).inputs == (ActionInput(name, path),)
    assert Action("a", "m", [form, "x"]).inputs == (ActionInput(name, path), ActionInput("x"))


@pytest.mark.parametrize("form", ["", "a[", "a[0", "a..b", ".a", 3, ("a", "b", "c"), (0, "a"), ("a", 1.5)])
def test_an_unreadable_input_is_refused(form: Any) -> None:
    with pytest.raises(ConfigError, match="action 'a': cannot read input"):
        Action("a", "m", form)


@pytest.mark.parametrize("inputs", [None, [], ()])
def test_no_inputs_means_all_outputs(inputs: Any) -> None:
    assert Action("a", "m", inputs).inputs == ()


@pytest.mark.parametrize("name", ["", "_input_", "a.b", "a[0]", "a/b", 3])
def test_a_name_that_inputs_could_not_refer_to_is_refused(name: Any) -> None:
    with pytest.raises(ConfigError, match="cannot name an action"):
        Action(name, "m")


def test_from_config_reads_what_the_constructor_takes() -> None:
    config = {"name": "a", "module": "m", "inputs": ["x", "y[1]"]}
    assert Action.from_config(config) == Action("a", "m", ["x", ("y", 1)])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "a", "modul": "m"}, "no argument 'modul'; did you mean 'module'"),
        ({"name": "a"}, "needs 'module'"),
        ({"name": "a", "module": None}, "must be the name of a module"),
    ],
)
def test_from_config_names_what_is_wrong(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Action.from_config(config)


class Pair(NamedTuple):
    hidden: str
    cell: str


@pytest.mark.parametrize(
    ("value", "path", "part"),
    [
        (["p", "q"], (1,), "q"),
        (("p", "q"), (-1,), "q"),
        ({"hidden": "h", 0: "zero"}, ("hidden",), "h"),
        ({"hidden": "h", 0: "zero"}, (0,), "zero"),
        (Pair("h", "c"), ("cell",), "c"),
        ({"layers": ["p", "q"]}, ("layers", 1), "q"),
    ],
)
def test_parts_are_found(value: Any, path: tuple[Any, ...], part: Any) -> None:
    assert follow(value, path) == part


def test_item_0_of_a_tensor_is_the_whole_and_there_is_no_other() -> None:
    tensor = torch.ones(3, 2)
    assert follow(tensor, (0,)) is tensor
    assert follow(tensor, ("0",)) is tensor
    with pytest.raises(LookupError, match=r"shape \(3, 2\) is one value"):
        follow(tensor, (1,))


@pytest.mark.parametrize(("value", "key"), [(["p"], 1), ({"a": 1}, "b"), (["p"], "a"), (Pair("h", "c"), "x"), (7, 1)])
def test_a_missing_part_is_a_lookup_error(value: Any, key: Any) -> None:
    with pytest.raises(LookupError):
        follow(value, (key,))
