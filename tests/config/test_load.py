# ruff: noqa: E501
# An answer to a mistake is one line, however long.

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emloop_mtl.config.config import Config
from emloop_mtl.config.load import dump_config, load_config
from emloop_mtl.config.located_error import LocatedError
from emloop_mtl.config.yaml_text import read_yaml
from emloop_mtl.errors import ConfigError

Write = Callable[..., Path]

CONFIG = """
    seed: 7
    dataset: {class: digits.Digits}
    model:
      class: MultiTaskModel
      optimizer: &adam {class: adamw, lr: 0.1}
      again: *adam
    hooks:
      - StopAfter: {epochs: 2}
      - my.hooks.Count
      - SaveBest:
          variable: loss
          name: best loss
      - SaveBest: {name: best score}
      - LogVariables
"""


def complaint(function: Callable[..., Any], *args: Any) -> str:
    with pytest.raises(LocatedError) as caught:
        function(*args)
    return str(caught.value)


def test_a_config_is_read_with_positions(write: Write) -> None:
    config = load_config(write(CONFIG))
    assert config.path == Path("config.yaml")
    assert config.data["model"]["again"] == {"class": "adamw", "lr": 0.1}
    assert config.position(("model", "optimizer", "lr")) == "config.yaml:5:35"
    assert config.position(("hooks", 2, "SaveBest", "variable")) == "config.yaml:11:7"
    assert config.position(("hooks", 2, "SaveBest", "varible", 3)) == "config.yaml:10:5"
    assert config.position(("nowhere",)) == "config.yaml:1:1"


def test_a_byte_order_mark_is_no_part_of_the_config(folder: Path) -> None:
    Path("config.yaml").write_bytes(b"\xef\xbb\xbfseed: 1\n")
    assert load_config("config.yaml").data == {"seed": 1}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "config.yaml: the config is empty; it needs the sections 'dataset' and 'model'"),
        (b"# nothing\n", "config.yaml: the config is empty; it needs the sections 'dataset' and 'model'"),
        (b"---\n", "config.yaml: the config is empty; it needs the sections 'dataset' and 'model'"),
        (b"\n- a\n", "config.yaml:2:1: a config is a mapping of sections, not a list"),
        (b"text", "config.yaml:1:1: a config is a mapping of sections, not a str"),
        (b"a: 1\nname: caf\xe9\n", "config.yaml:2:10: byte 0xe9 is not UTF-8"),
        (b"a: 1\na: 2\n", "config.yaml:2:1: key 'a' stands here twice, first at config.yaml:1:1"),
    ],
)
def test_a_file_that_is_no_config_is_refused(folder: Path, content: bytes, expected: str) -> None:
    Path("config.yaml").write_bytes(content)
    assert complaint(load_config, "config.yaml") == expected


def test_a_missing_file_and_a_folder_are_refused(folder: Path) -> None:
    assert complaint(load_config, "absent.yaml") == "absent.yaml: no such file"
    assert complaint(load_config, ".") == ".: is a folder, not a config file"
    assert complaint(load_config, "parts.py/config.yaml") == "parts.py/config.yaml: cannot be read: Not a directory"


def overridden(write: Write, *overrides: str) -> Config:
    return load_config(write(CONFIG), overrides)


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("seed=3", ("seed",), 3),
        ("model.optimizer.lr=1e-3", ("model", "optimizer", "lr"), 1e-3),
        ("model.optimizer.betas=[0.9, 0.99]", ("model", "optimizer", "betas"), [0.9, 0.99]),
        ("model.optimizer={class: sgd, lr: 1}", ("model", "optimizer"), {"class": "sgd", "lr": 1}),
        ("model.name=a=b", ("model", "name"), "a=b"),
        ("model.name=", ("model", "name"), None),
        ("model.name=yes", ("model", "name"), "yes"),
        ("main_loop.fixed_epoch_size=5", ("main_loop", "fixed_epoch_size"), 5),
        ("hooks.0.StopAfter.epochs=3", ("hooks", 0, "StopAfter", "epochs"), 3),
        ("hooks.0.epochs=3", ("hooks", 0, "StopAfter", "epochs"), 3),
        ("hooks.StopAfter.epochs=3", ("hooks", 0, "StopAfter", "epochs"), 3),
        ("hooks.StopAfter={steps: 9}", ("hooks", 0, "StopAfter"), {"steps": 9}),
        ("hooks.0={StopOnNaN: null}", ("hooks", 0), {"StopOnNaN": None}),
        ("hooks.my.hooks.Count.every=3", ("hooks", 1, "my.hooks.Count", "every"), 3),
        ("hooks.Count.every=3", ("hooks", 1, "my.hooks.Count", "every"), 3),
        ("hooks.1.my.hooks.Count.every=3", ("hooks", 1, "my.hooks.Count", "every"), 3),
        ("hooks.best score.mode=max", ("hooks", 3, "SaveBest", "mode"), "max"),
        ("hooks.2.SaveBest.mode=max", ("hooks", 2, "SaveBest", "mode"), "max"),
        ("hooks.LogVariables.only=[loss]", ("hooks", 4, "LogVariables", "only"), ["loss"]),
        ("hooks.LogVariables=null", ("hooks", 4, "LogVariables"), None),
        ("hooks=[]", ("hooks",), []),
    ],
)
def test_an_override_sets_one_value_and_is_named_as_its_position(
    write: Write, override: str, path: tuple[str | int, ...], value: Any
) -> None:
    config = overridden(write, override)
    found: Any = config.data
    for key in path:
        found = found[key]
    assert found == value
    assert type(found) is type(value)
    assert config.position(path) == f"command line: {override}"


def test_an_override_leaves_what_an_alias_shared_alone(write: Write) -> None:
    model = overridden(write, "model.optimizer.lr=5").data["model"]
    assert (model["optimizer"]["lr"], model["again"]["lr"]) == (5, 0.1)


def test_later_overrides_win_and_hide_older_positions(write: Write) -> None:
    config = overridden(write, "model.optimizer={lr: 1, eps: 2}", "model.optimizer.lr=3")
    assert config.data["model"]["optimizer"] == {"lr": 3, "eps": 2}
    assert config.position(("model", "optimizer", "lr")) == "command line: model.optimizer.lr=3"
    assert config.position(("model", "optimizer", "eps")) == "command line: model.optimizer={lr: 1, eps: 2}"
    whole = overridden(write, "model.optimizer.lr=3", "model.optimizer={lr: 1}")
    assert whole.position(("model", "optimizer", "lr")) == "command line: model.optimizer={lr: 1}"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed", "an override is written key=value, e.g. model.optimizer.lr=0.1"),
        ("=3", "the key is empty, or a part of it between two dots"),
        ("model..lr=3", "the key is empty, or a part of it between two dots"),
        ("modl.optimizer.lr=3", "the config has no 'modl'; did you mean 'model'?"),
        ("model.optimzer.lr=3", "model has no 'optimzer'; did you mean 'optimizer'?"),
        ("seed.x=3", "seed is 7, which has no keys"),
        ("hooks.StopAftr.epochs=3", "no hook is called 'StopAftr'; did you mean 'StopAfter'?"),
        ("hooks.SaveBest.mode=max", "'SaveBest' is the name of several hooks: hooks.2 and hooks.3"),
        ("hooks.9.epochs=3", "hooks has 5 entries, counted from 0"),
        ("model.name=[1", "not valid YAML: expected ',' or ']', but got '<stream end>' (while parsing a flow sequence that begins at 1:1)"),
        ("model.name=!!python/name:os.system", "tag !!python/name:os.system is refused; a config holds plain data only"),
    ],
)  # fmt: skip
def test_an_override_without_a_place_is_refused(write: Write, override: str, expected: str) -> None:
    assert complaint(load_config, write(CONFIG), [override]) == f"command line: {override}: {expected}"


def test_a_list_elsewhere_takes_an_index(write: Write) -> None:
    path = write("model: {sizes: [1, 2]}\n")
    assert load_config(path, ["model.sizes.1=5"]).data["model"]["sizes"] == [1, 5]
    expected = "command line: model.sizes.x=5: model.sizes is a list; name an entry by its index, counted from 0"
    assert complaint(load_config, path, ["model.sizes.x=5"]) == expected


def test_integer_keys_and_keys_with_dots_can_be_overridden(write: Write) -> None:
    path = write("model: {names: {0: cat, a.b: dog}}\n")
    config = load_config(path, ["model.names.0=cow", "model.names.a.b=pig"])
    assert config.data["model"]["names"] == {0: "cow", "a.b": "pig"}


def error(message: str, *path: str | int) -> ConfigError:
    return ConfigError(message, path)


@pytest.mark.parametrize(
    ("mistake", "expected"),
    [
        (error("unknown argument 'varible'", "hooks", 2, "SaveBest", "varible"), "config.yaml:10:5: hooks[2] SaveBest: unknown argument 'varible'"),
        (error("SaveBest: unknown argument 'x'", "hooks", 2, "SaveBest"), "config.yaml:10:5: hooks[2] SaveBest: unknown argument 'x'"),
        (error("SaveBest requires 'x'", "hooks", 2, "SaveBest"), "config.yaml:10:5: hooks[2] SaveBest: requires 'x'"),
        (error("best loss: no", "hooks", 2, "SaveBest"), "config.yaml:10:5: hooks[2] SaveBest: no"),
        (error("Count: no", "hooks", 1, "my.hooks.Count"), "config.yaml:9:5: hooks[1] my.hooks.Count: no"),
        (error("expected int", "hooks", 0, "StopAfter", "epochs"), "config.yaml:8:17: hooks[0] StopAfter.epochs: expected int"),
        (error("too\n large", "model", "optimizer", "lr"), "config.yaml:5:35: model.optimizer.lr: too large"),
        (error("main_loop: unknown argument 'x'", "main_loop", "x"), "config.yaml:1:1: main_loop: unknown argument 'x'"),
        (error("nothing fits"), "config.yaml:1:1: nothing fits"),
        (LocatedError("a.yaml:1:1: done"), "a.yaml:1:1: done"),
    ],
)  # fmt: skip
def test_an_error_is_one_line_with_position_and_place(write: Write, mistake: ConfigError, expected: str) -> None:
    config = load_config(write(CONFIG))
    assert config.describe(mistake) == expected
    with pytest.raises(LocatedError) as caught, config.located():
        raise mistake
    assert str(caught.value) == expected


def test_a_config_can_be_made_of_data() -> None:
    data = {"model": {"sizes": (1, 2), "file": Path("a.txt")}}
    config = Config(data)
    assert config.data == {"model": {"sizes": [1, 2], "file": "a.txt"}}
    assert config.describe(error("no", "model", "sizes", 1)) == "config: model.sizes[1]: no"


@pytest.mark.parametrize("value", [object(), {1.5: 2}, {True: 1}, {None: 1}, {1, 2}])
def test_a_config_holds_plain_data_only(value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        Config({"model": [value]})
    assert caught.value.path == ("model", 0)


plain_data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=15,
)


@given(st.dictionaries(st.text(max_size=10), plain_data, min_size=1, max_size=5))
def test_a_dumped_config_loads_to_the_same_data(data: dict[str, Any]) -> None:
    text = dump_config(Config(data))
    assert read_yaml(text, lambda line, column: "")[0] == data


def test_the_dump_of_a_loaded_config_is_resolved(write: Write) -> None:
    config = load_config(write(CONFIG), ["model.optimizer.lr=0.5", "hooks.LogVariables.only=[loss]"])
    text = dump_config(config)
    assert "&" not in text
    assert "*" not in text
    Path("resolved.yaml").write_text(text)
    assert load_config("resolved.yaml").data == config.data
