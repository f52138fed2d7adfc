# ruff: noqa: E501
# An answer to a mistake is one line, however long.

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from emloop_mtl.config.located_error import LocatedError
from emloop_mtl.config.yaml_text import MAX_DEPTH, MAX_NODES, inline_yaml, read_yaml, write_yaml


def locate(line: int, column: int) -> str:
    return f"{line + 1}:{column + 1}"


def read(text: str) -> Any:
    return read_yaml(text, locate)[0]


def complaint(text: str) -> str:
    with pytest.raises(LocatedError) as caught:
        read(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("~", None), ("null", None), ("Null", None), ("nul", "nul"), ("", None),
        ("true", True), ("False", False), ("TRUE", True), ("tRUE", "tRUE"),
        ("yes", "yes"), ("no", "no"), ("on", "on"), ("off", "off"), ("y", "y"),
        ("12", 12), ("+12", 12), ("-0", 0), ("007", 7), ("0o17", 15), ("0x1F", 31), ("0b1", "0b1"), ("1_000", "1_000"),
        ("1.5", 1.5), ("1e-3", 1e-3), ("1E5", 1e5), (".5", 0.5), ("5.", 5.0), ("-.5e1", -5.0), ("1.0e-6", 1e-6),
        (".inf", math.inf), ("-.INF", -math.inf), ("inf", "inf"), ("nan", "nan"), (".", "."), ("1e", "1e"),
        ("2024-01-31", "2024-01-31"), ("12:30:45", "12:30:45"), ("=", "="), ("'<<'", "<<"),
        ("'12'", "12"), ('"true"', "true"), ("!!str 12", "12"), ("!!int '12'", 12), ("!!float 12", 12.0), ("!!null ''", None),
        ("!!seq [1]", [1]), ('{"a": [1, 2.0, null, "x"]}', {"a": [1, 2.0, None, "x"]}),
    ],
)  # fmt: skip
def test_scalars_follow_the_core_schema_of_yaml_1_2(text: str, value: Any) -> None:
    found = read(text)
    assert found == value
    assert type(found) is type(value)


def test_nan_is_a_float() -> None:
    assert math.isnan(read(".nan"))


def test_a_version_directive_does_not_change_what_words_mean() -> None:
    assert read("%YAML 1.1\n---\na: yes\n") == {"a": "yes"}


def test_positions_are_those_of_keys_and_list_items() -> None:
    _, positions = read_yaml("a: 1\nb:\n  - c: {d: 2}\n  - e\n", locate)
    assert positions == {
        (): "1:1", ("a",): "1:1", ("b",): "2:1", ("b", 0): "3:5", ("b", 0, "c"): "3:5", ("b", 0, "c", "d"): "3:9",
        ("b", 1): "4:5",
    }  # fmt: skip


def test_an_alias_is_a_copy_whose_inside_stands_where_the_anchor_is() -> None:
    data, positions = read_yaml("a: &x {k: [1]}\nb: *x\n", locate)
    assert data == {"a": {"k": [1]}, "b": {"k": [1]}}
    assert data["a"]["k"] is not data["b"]["k"]
    assert positions["b",] == "2:1"
    assert positions["b", "k"] == "1:8"


def test_an_anchor_may_be_defined_anew() -> None:
    assert read("a: &x 1\nb: *x\nc: &x 2\nd: *x\n") == {"a": 1, "b": 1, "c": 2, "d": 2}


def test_own_keys_win_over_merged_ones_and_earlier_merges_over_later() -> None:
    text = "one: &one {a: 1, b: 1, c: 1}\ntwo: &two {c: 2, d: 2}\nall: {b: 3, <<: [*one, *two]}\n"
    data, positions = read_yaml(text, locate)
    assert data["all"] == {"a": 1, "b": 3, "c": 1, "d": 2}
    assert positions["all", "b"] == "3:7"
    assert positions["all", "d"] == "2:18"


def test_merges_may_be_nested() -> None:
    text = "a: &a {x: 1}\nb: &b {<<: *a, y: 2}\nc: {<<: *b, z: 3}\n"
    assert read(text)["c"] == {"x": 1, "y": 2, "z": 3}


BROKEN = {
    "duplicate key": ("a: 1\nb: 2\na: 3\n", "3:1: key 'a' stands here twice, first at 1:1"),
    "duplicate key in different writing": ("'a': 1\na: 3\n", "2:1: key 'a' stands here twice, first at 1:1"),
    "two merges": ("x: &x {}\ny:\n  <<: *x\n  <<: *x\n", "4:3: '<<' stands here twice, first at 3:3"),
    "merge of a number": ("a: {<<: 3}", "1:9: '<<' takes a mapping or a list of mappings"),
    "python tag": (
        "a:\n  b: !!python/object/apply:os.system ['true']",
        "2:6: tag !!python/object/apply:os.system is refused; a config holds plain data only",
    ),
    "python name": ("a: !!python/name:os.system", "1:4: tag !!python/name:os.system is refused; a config holds plain data only"),
    "own tag": ("a: !mine {}", "1:4: tag !mine is refused; a config holds plain data only"),
    "set": ("a: !!set {x, y}", "1:4: tag !!set is refused; a config holds plain data only"),
    "binary": ("a: !!binary aGk=", "1:4: tag !!binary is refused; a config holds plain data only"),
    "false tag": ("a: !!int x", "1:4: 'x' is not int"),
    "mapping tagged as text": ("a: !!str {}", "1:4: tag !!str is refused; a config holds plain data only"),
    "list as key": ("? [1]\n: 2", "1:3: a key must be text or an integer, and this is none; put it in quotes"),
    "bool as key": ("a:\n  true: 2", "2:3: a key must be text or an integer, and 'true' is bool; put it in quotes"),
    "cycle": ("a: &a\n  b: *a\n", "1:4: anchor 'a' contains itself"),
    "cycle in a merge": ("a: &a\n  <<: *a\n", "1:4: anchor 'a' contains itself"),
    "undefined alias": ("a: *b", "1:4: not valid YAML: found undefined alias 'b'"),
    "several documents": ("a: 1\n---\nb: 2\n", "2:1: a second document begins; a config is one document"),
    "open list": (
        "a: [1, 2\nb: 3\n",
        "2:2: not valid YAML: expected ',' or ']', but got ':' (while parsing a flow sequence that begins at 1:4)",
    ),
    "tab": ("a:\n\tb: 1\n", "2:1: not valid YAML: found character '\\t' that cannot start any token; indent with spaces"),
    "two colons": ("a: b: c\n", "1:5: not valid YAML: mapping values are not allowed here"),
    "control character": ("a: 1\nb: \x07\n", "2:4: character '\\x07' is not allowed in YAML"),
    "long integer": ("a: " + "9" * 5000, "1:4: an integer of 5000 digits is too long"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), BROKEN.values(), ids=BROKEN)
def test_what_is_not_plain_data_is_refused_with_its_position(text: str, expected: str) -> None:
    assert complaint(text) == expected


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 5000])
def test_deep_nesting_is_refused(depth: int) -> None:
    assert complaint("[" * depth + "]" * depth).endswith(f"nested more than {MAX_DEPTH} deep")
    assert read("[" * MAX_DEPTH + "]" * MAX_DEPTH) != []


def test_depth_counts_through_aliases() -> None:
    lines = ["a0: &a0 [1]"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 120)]
    assert complaint("\n".join(lines)).endswith(f"nested more than {MAX_DEPTH} deep")


@pytest.mark.parametrize("line", ["[*a{0}, *a{0}, *a{0}, *a{0}]", "{{<<: [*a{0}, *a{0}, *a{0}, *a{0}]}}"])
def test_runaway_expansion_is_refused(line: str) -> None:
    lines = ["a0: &a0 {x: 1}"] + [f"a{n}: &a{n} {line.format(n - 1)}" for n in range(1, 40)]
    assert f"more than {MAX_NODES} values once aliases are expanded" in complaint("\n".join(lines))


def test_written_yaml_shows_shared_data_without_anchors() -> None:
    shared = {"x": [1]}
    assert write_yaml({"b": shared, "a": shared}) == "b:\n  x:\n  - 1\na:\n  x:\n  - 1\n"


@pytest.mark.parametrize("text", ["yes", "off", "2024-01-31", "1_000", "12:30:45", "0b1", "+1_0.5", "="])
def test_written_text_is_text_for_other_readers_too(text: str) -> None:
    for version in ((1, 1), (1, 2)):
        yaml = YAML(typ="safe", pure=True)
        yaml.version = version
        assert yaml.load(write_yaml({"a": text})) == {"a": text}


texts = st.text(max_size=200) | st.sampled_from(
    ["yes", "1_000", "0o17", "1e3", ".inf", "~", "null", "<<", "=", "", " x ", "- a", "a: b", "#", "x #y", "\u2028", "\x85", "\x7f", "---", "%x", "'", '"', "\ufeff"]
)  # fmt: skip
plain_data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts | st.integers(), inner, max_size=4),
    max_leaves=20,
)


@given(plain_data)
def test_written_data_is_read_back_the_same(data: Any) -> None:
    found = read(write_yaml(data))
    assert found == data
    assert repr(found) == repr(data)  # equality alone takes True for 1 and 1.0


@given(plain_data)
def test_data_in_one_line_is_read_back_the_same(data: Any) -> None:
    line = inline_yaml(data)
    assert len(line.splitlines()) <= 1
    assert repr(read(line)) == repr(data)


def test_a_line_of_yaml_needs_no_more_quotes_than_yaml_does() -> None:
    data = {"class": "torch.nn.Linear", "sizes": [1, 2.5, None, True], "text": "a b", "null": "null", "é": float("nan")}
    expected = """{class: torch.nn.Linear, sizes: [1, 2.5, null, true], text: "a b", "null": "null", "é": .nan}"""
    assert inline_yaml(data) == expected


@given(st.text(alphabet="ab:-[]{}&*<>|!%@#'\"?,\n \t~0.1x", max_size=60))
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    answer = ""
    try:
        read(text)
    except LocatedError as error:
        answer = str(error)
    assert "\n" not in answer
