# ruff: noqa: E501, UP007, UP045
# Unions are written in all forms, since configs meet all of them; a case is one line.

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, Optional, TypeVar, Union

import pytest

from emloop_mtl.config.annotations import accepts, check_type
from emloop_mtl.errors import ConfigError

Size = NewType("Size", int)
T = TypeVar("T")


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (1, int), (1, float), (1.5, float), (True, bool), ("x", str), (None, None), (None, Optional[int]), (1, Optional[int]),
        (1, int | str), ("x", Union[int, str]), ([], list), ([1], list[int]), ([1, 2], tuple[int, int]), ([1], tuple[int, ...]),
        ([1], Sequence[float]), (["a"], Iterable[str]), ("a", str | Sequence[str]), ({}, dict), ({"a": 1}, Mapping[str, float]),
        ("fast", Literal["fast", 3]), (3, Literal["fast", 3]), ("a/b", Path), ("x", Callable[..., int]),
        (1, Any), ("x", T), (1, Size), (1, Annotated[int, "of pixels"]), ("cuda", Path | None), ([1], "unknown"), (b"x", object),
        ({"class": "a.B"}, Mapping[str, int]), ([{"class": "a.B"}], list[Path]), ([[1]], Sequence[Sequence[int]]),
    ],
)  # fmt: skip
def test_values_that_fit(value: Any, annotation: Any) -> None:
    assert check_type(value, annotation) is None  # what does not fit is raised


@pytest.mark.parametrize(
    ("value", "annotation", "text", "path"),
    [
        (True, int, "expected int, got true", ()),
        (True, float, "expected float, got true", ()),
        (1, bool, "expected bool, got 1", ()),
        (1.5, int, "expected int, got 1.5", ()),
        (2.0, int, "expected int, got 2.0; write 2", ()),
        ("1", float, "expected float, got '1'", ()),
        (1, str, "expected str, got 1; write '1'", ()),
        (None, str, "expected str, got null", ()),
        ([], str | int, "expected str or int, got a list of 0", ()),
        ("x", int | None, "expected int, got 'x'", ()),
        ("x", int | list[int] | None, "expected int or list of int or null, got 'x'", ()),
        (["x"], int | list[int], "expected int, got 'x'", (0,)),
        ("valid", Sequence[str], "expected list of str, got 'valid'; write [valid]", ()),
        ("valid", Iterable[str], "expected list of str, got 'valid'; write [valid]", ()),
        ([1, 2, 3], tuple[int, int], "expected list of 2, got a list of 3", ()),
        ([1, "x"], tuple[int, int], "expected int, got 'x'", (1,)),
        ([[1], ["x"]], list[list[int]], "expected int, got 'x'", (1, 0)),
        ([], Mapping[str, int], "expected mapping, got a list of 0", ()),
        ({"a": "x"}, Mapping[str, int], "expected int, got 'x'", ("a",)),
        ({1: 2}, Mapping[str, int], "expected str, got 1; write '1'", ()),
        ("fst", Literal["fast", "exact"], "expected one of 'fast', 'exact', got 'fst'; did you mean 'fast'?", ()),
        (True, Literal[1, 2], "expected one of 1, 2, got true", ()),
        (3, Path, "expected a path, got 3", ()),
        ("x", Size, "expected int, got 'x'", ()),
        ({"class": "a.B"}, int, "expected int, got an object of class a.B", ()),
        ({"class": "a.B"}, Literal["a"], "expected one of 'a', got an object of class a.B", ()),
        ("x" * 100, int, f"expected int, got '{'x' * 56}…'", ()),
    ],
)  # fmt: skip
def test_values_that_do_not_fit(value: Any, annotation: Any, text: str, path: tuple[Any, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        check_type(value, annotation, ("here",))
    assert (str(caught.value), caught.value.path) == (text, ("here", *path))


def test_alternatives_are_found_in_unions() -> None:
    assert accepts(str | Callable[..., int] | None, Callable)
    assert accepts(Optional[Path], Path)
    assert not accepts(str | int, Callable)
