"""What a class or function can be called with."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from inspect import Parameter
from itertools import pairwise
from typing import Any

from ..abstract_hook import AbstractHook
from ..errors import ConfigError, nearest
from .annotations import check_type

_BY_POSITION = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
_CATCH = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)

REFUSED = "unknown"
"""A catch-all of this name, ``**unknown``, is there only to be refused with a clear error."""


@dataclass(frozen=True)
class Arguments:
    """The arguments of one callable.

    :param positions: names of those that can be given by position
    :param named: annotation of each argument in the callable's own signature
    :param accepted: annotation of each argument that can be given by name, those of base classes included that
        ``**kwargs`` is handed on to
    :param required: names of those without a default
    :param nullable: names of those whose default is None
    :param takes_more_positions: whether there is ``*args``
    :param is_open: whether any further name is accepted
    :param catch_all: the name of ``**kwargs``, None if there is none
    """

    positions: tuple[str, ...]
    named: Mapping[str, Any]
    accepted: Mapping[str, Any]
    required: frozenset[str]
    nullable: frozenset[str]
    takes_more_positions: bool
    is_open: bool
    catch_all: str | None

    @classmethod
    def of(cls, target: Callable[..., Any]) -> Arguments | None:
        """Return what ``target`` can be called with; None if that cannot be known, as for some built-in classes."""
        try:
            parameters = list(inspect.signature(target).parameters.values())
        except (TypeError, ValueError):
            return None
        functions = list(_functions(target))
        named = {p.name: _annotation(p, functions[:1]) for p in parameters if p.kind not in _CATCH}
        accepted = {p.name: named[p.name] for p in parameters if p.kind in _BY_NAME}
        catch_all = next((p.name for p in parameters if p.kind is Parameter.VAR_KEYWORD), None)
        is_open = catch_all not in (None, REFUSED)
        if catch_all is not None and is_open and isinstance(target, type):
            inherited, is_open = _inherited(functions, catch_all)
            accepted = {**inherited, **accepted}
        return cls(
            positions=tuple(p.name for p in parameters if p.kind in _BY_POSITION),
            named=named,
            accepted=accepted,
            required=frozenset(p.name for p in parameters if p.default is Parameter.empty and p.kind not in _CATCH),
            nullable=frozenset(p.name for p in parameters if p.default is None),
            takes_more_positions=any(p.kind is Parameter.VAR_POSITIONAL for p in parameters),
            is_open=is_open,
            catch_all=catch_all,
        )


def check_arguments(
    target: Callable[..., Any],
    kwargs: Mapping[str, Any],
    handed_over: Collection[str] = (),
    args: Sequence[Any] = (),
) -> None:
    """Check a call before it is made: names, missing arguments and, by annotation, types.

    :param target: the class or function
    :param kwargs: arguments by name, as in the config
    :param handed_over: names that the engine fills in
    :param args: arguments by position
    :raise ConfigError: for the first mistake, with the argument's name as path
    """
    known = Arguments.of(target)
    if known is None:
        return
    by_position = dict(zip(known.positions, args, strict=False))
    if len(args) > len(known.positions) and not known.takes_more_positions:
        raise ConfigError(f"takes at most {len(known.positions)} arguments by position, got {len(args)}", ("args",))
    for name in kwargs:
        if name in by_position:
            raise ConfigError(f"argument {name!r} is given twice, by name and in 'args'", (name,))
        check_name(target, name, known, handed_over)
    missing = [name for name in known.named if name in known.required - {*kwargs, *by_position, *handed_over}]
    if missing:
        plural = "s" if len(missing) > 1 else ""
        raise ConfigError(f"missing argument{plural} {', '.join(map(repr, missing))}")
    given = [(name, value, ("args", index)) for index, (name, value) in enumerate(by_position.items())]
    for name, value, path in [*given, *((name, value, (name,)) for name, value in kwargs.items())]:
        if value is not None or name not in known.nullable:
            check_type(value, {**known.accepted, **known.named}.get(name, Any), path)


def check_name(target: Callable[..., Any], name: str, known: Arguments, handed_over: Collection[str] = ()) -> None:
    """Check that there is an argument of this name.

    :param target: the class or function
    :param known: its arguments
    :param handed_over: names that the engine fills in
    :raise ConfigError: if there is none, with the name as path
    """
    if name in known.accepted or known.is_open:
        return
    if isinstance(target, type) and issubclass(target, AbstractHook):  # it knows emloop's names, too
        raise ConfigError(target.unknown_argument(name), (name,))
    choices = [choice for choice in known.accepted if choice not in handed_over]
    raise ConfigError(f"unknown argument {name!r}{nearest(name, choices)}", (name,))


def _functions(target: Callable[..., Any]) -> Iterator[Any]:
    """Yield the Python functions that a call reaches: for a class, the ``__init__`` of it and of its bases."""
    if isinstance(target, partial):
        yield from _functions(target.func)
    elif isinstance(target, type):
        for base in target.__mro__:
            function = base.__dict__.get("__init__")
            if inspect.isfunction(function):
                yield inspect.unwrap(function)
    else:
        yield inspect.unwrap(target if inspect.isroutine(target) else type(target).__call__)


def _inherited(functions: Sequence[Any], catch_all: str) -> tuple[dict[str, Any], bool]:
    """Return the arguments of base classes that ``**kwargs`` reaches, and whether it takes any others."""
    accepted: dict[str, Any] = {}
    for function, base in pairwise(functions):
        if not _hands_on(function, catch_all):
            return accepted, True
        if base is AbstractHook.__init__:  # lets through what it is handed, and has no use for it
            return accepted, False
        parameters = list(inspect.signature(base).parameters.values())[1:]
        names = {p.name: _annotation(p, [base]) for p in parameters if p.kind in _BY_NAME}
        accepted = {**names, **accepted}
        caught = next((p.name for p in parameters if p.kind is Parameter.VAR_KEYWORD), None)
        if caught in (None, REFUSED):
            return accepted, False
        catch_all = caught
    return accepted, True


@cache  # to find and parse the source takes most of the time of a check, and a run checks its config more than once
def _hands_on(function: Any, catch_all: str) -> bool:
    """Whether ``**kwargs`` is used for nothing but ``super().__init__(**kwargs)``; if unsure, it is not."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return False
    uses = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == catch_all]
    handed = [
        keyword.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "__init__"
        for keyword in node.keywords
        if keyword.arg is None and isinstance(keyword.value, ast.Name) and keyword.value.id == catch_all
    ]
    return bool(uses) and len(uses) == len(handed)


def _annotation(parameter: Parameter, functions: Sequence[Any]) -> Any:
    """Evaluate an annotation; one that cannot be, such as a name imported for type checkers only, accepts all."""
    annotation = parameter.annotation
    if annotation is Parameter.empty or not functions:
        return Any
    if not isinstance(annotation, str):
        return annotation
    space = getattr(functions[0], "__globals__", None) or vars(sys.modules[functions[0].__module__])
    try:
        return eval(annotation, dict(space))  # noqa: S307 - the code of a class that is about to be called anyway
    except Exception:
        return Any
