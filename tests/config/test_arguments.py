from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import torch

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.config.arguments import Arguments, check_arguments
from emloop_mtl.errors import ConfigError

if TYPE_CHECKING:
    from decimal import Decimal  # a name that does not exist when the program runs


class Base:
    def __init__(self, size: int = 1, **unknown: Any) -> None: ...


class HandsOn(Base):
    def __init__(self, width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)


class HandsOnTwice(HandsOn):
    def __init__(self, **options: Any) -> None:
        super().__init__(width=3, **options)


class Reads(Base):
    def __init__(self, **kwargs: Any) -> None:
        self.depth = kwargs.pop("depth", 1)
        super().__init__(**kwargs)


class Keeps:
    def __init__(self, **kwargs: Any) -> None:
        self.kwargs = kwargs


class Hook(AbstractHook):
    renamed: ClassVar[Mapping[str, str]] = {"old": "every"}

    def __init__(self, every: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)


@dataclass
class Data:
    size: int
    name: str = ""


class Unknowable:
    def __init__(self, thing: Decimal, count: int = 0) -> None: ...


class Called:
    def __call__(self, size: int) -> None: ...


def function(size: int, /, *more: float, scale: float = 1.0) -> None: ...


def complaint(target: Callable[..., Any], kwargs: Mapping[str, Any], args: Sequence[Any] = ()) -> tuple[str, Any]:
    with pytest.raises(ConfigError) as caught:
        check_arguments(target, kwargs, ("model",), args)
    return str(caught.value), caught.value.path


@pytest.mark.parametrize(
    ("target", "kwargs", "args"),
    [
        (HandsOn, {"width": 1, "size": 2}, []),
        (HandsOnTwice, {"size": 2}, []),
        (Reads, {"anything": 1}, []),
        (Keeps, {"anything": 1}, []),
        (Hook, {"every": 2}, []),
        (Data, {"size": 1}, []),
        (Data, {}, [1, "a"]),
        (Unknowable, {"thing": 3}, []),
        (Called(), {"size": 1}, []),
        (function, {"scale": 1}, [1, 2, 3]),
        (partial(function, 1), {"scale": 2}, []),
        (torch.nn.Linear, {"in_features": 1, "out_features": 2}, []),
        (OrderedDict, {"a": 1}, []),
        (dict, {"a": 1}, []),
    ],
)
def test_calls_that_python_would_accept_pass(target: Any, kwargs: dict[str, Any], args: list[Any]) -> None:
    target(*args, **kwargs)
    assert check_arguments(target, kwargs, (), args) is None  # what is wrong is raised


@pytest.mark.parametrize(
    ("target", "kwargs", "args", "text", "path"),
    [
        (HandsOn, {"width": 1, "sise": 2}, [], "unknown argument 'sise'; did you mean 'size'?", ("sise",)),
        (HandsOn, {"width": 1, "size": "x"}, [], "expected int, got 'x'", ("size",)),
        (HandsOnTwice, {"sise": 2}, [], "unknown argument 'sise'; did you mean 'size'?", ("sise",)),
        (HandsOn, {}, [], "missing argument 'width'", ()),
        (Hook, {"evry": 2}, [], "unknown argument 'evry'; did you mean 'every'?", ("evry",)),
        (Hook, {"old": 2}, [], "the argument 'old' is called 'every' here", ("old",)),
        (Data, {"name": "x"}, [], "missing argument 'size'", ()),
        (Data, {"size": 1}, [2], "argument 'size' is given twice, by name and in 'args'", ("size",)),
        (Data, {}, [1, "", 3], "takes at most 2 arguments by position, got 3", ("args",)),
        (Data, {}, [1, 2], "expected str, got 2; write '2'", ("args", 1)),
        (Unknowable, {"thing": 1, "count": "x"}, [], "expected int, got 'x'", ("count",)),
        (Called(), {"size": "x"}, [], "expected int, got 'x'", ("size",)),
        (function, {"size": 1}, [], "unknown argument 'size'; known are: scale", ("size",)),
        (function, {"scale": "x"}, [1], "expected float, got 'x'", ("scale",)),
        (torch.nn.Linear, {}, [], "missing arguments 'in_features', 'out_features'", ()),
    ],
)
def test_other_calls_are_refused_before_they_are_made(
    target: Any, kwargs: dict[str, Any], args: list[Any], text: str, path: tuple[Any, ...]
) -> None:
    assert complaint(target, kwargs, args) == (text, path)


def test_what_is_handed_over_need_not_be_given_and_is_no_hint() -> None:
    def needs(model: Any, models: int = 0) -> None: ...

    check_arguments(needs, {}, ("model",))
    assert complaint(needs, {"modle": 1})[0] == "unknown argument 'modle'; did you mean 'models'?"


def test_what_a_hook_is_handed_is_no_argument_unless_it_names_it() -> None:
    known = Arguments.of(Hook)
    assert known is not None
    assert set(known.accepted) == {"every"}
    assert not known.is_open
    assert complaint(Hook, {"output_dir": "x"})[0] == "unknown argument 'output_dir'; known are: every"
