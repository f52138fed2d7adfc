"""Compares values of a config with the annotations of the arguments they are meant for."""

from __future__ import annotations

import types
import typing
from collections import abc
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from ..errors import ConfigError, KeyPath, nearest

LISTS = (list, tuple, abc.Sequence, abc.MutableSequence, abc.Collection, abc.Iterable)
MAPPINGS = (dict, abc.Mapping, abc.MutableMapping)
_SCALARS = (bool, int, float, str)


def is_object(value: Any) -> bool:
    """Whether ``value`` stands for an object that is built from the config."""
    return isinstance(value, Mapping) and "class" in value


def check_type(value: Any, annotation: Any, path: KeyPath = ()) -> None:
    """Compare ``value`` with ``annotation``; what is not known here is accepted.

    A bool is no int, an int is a float, text is no list. Objects fit everywhere but where plain data is expected.

    :param path: what errors carry
    :raise ConfigError: if the value does not fit, naming what would
    """
    options = alternatives(annotation)
    problems = [problem for option in options if (problem := _problem(value, option, path)) is not None]
    if len(problems) < len(options):
        return
    if len([option for option in options if option is not type(None)]) == 1:
        raise next(problem for problem, option in zip(problems, options, strict=True) if option is not type(None))
    deeper = [problem for problem in problems if problem.path != path]
    if deeper:
        raise deeper[0]
    raise _mismatch(value, " or ".join(dict.fromkeys(_name(option) for option in options)), path)


def accepts(annotation: Any, *kinds: Any) -> bool:
    """Whether one of the alternatives of ``annotation`` is one of ``kinds``."""
    return any(option in kinds or typing.get_origin(option) in kinds for option in alternatives(annotation))


def item_annotation(annotation: Any, value: Any) -> Any:
    """Return the annotation of the items of a list or mapping that is annotated so; ``Any`` if it is not known."""
    for option in alternatives(annotation):
        origin, arguments = typing.get_origin(option), typing.get_args(option)
        if isinstance(value, list) and origin in LISTS and arguments and (origin is not tuple or arguments[-1] is ...):
            return arguments[0]
        if isinstance(value, Mapping) and origin in MAPPINGS and len(arguments) == 2:
            return arguments[1]
    return Any


def alternatives(annotation: Any) -> list[Any]:
    """Return the alternatives of a union, without wrappers; the annotation itself if it is none."""
    origin = typing.get_origin(annotation)
    if origin in (Union, types.UnionType):
        return [option for part in typing.get_args(annotation) for option in alternatives(part)]
    if origin is typing.Annotated:
        return alternatives(typing.get_args(annotation)[0])
    if isinstance(annotation, typing.NewType):
        return alternatives(annotation.__supertype__)
    return [type(None) if annotation is None else annotation]


def _problem(value: Any, option: Any, path: KeyPath) -> ConfigError | None:
    origin = typing.get_origin(option) or option
    if option in (Any, object) or isinstance(option, TypeVar):
        return None
    if not _is_data(value):
        target = getattr(value, "target", None)
        is_wrong = origin in (*_SCALARS, type(None), Literal) and (isinstance(target, type) or is_object(value))
        return _mismatch(value, _name(option), path) if is_wrong and target not in _SCALARS else None
    if origin is Literal:
        return _choice_problem(value, typing.get_args(option), path)
    if origin is type(None):
        return None if value is None else _mismatch(value, "null", path)
    if origin in _SCALARS:
        return None if _is_scalar(value, origin) else _mismatch(value, _name(option), path)
    if origin is Path:
        return None if isinstance(value, str) else _mismatch(value, "a path", path)
    if origin in LISTS:
        return _list_problem(value, option, path)
    if origin in MAPPINGS:
        return _mapping_problem(value, option, path)
    return None


def _is_data(value: Any) -> bool:
    return value is None or (isinstance(value, (*_SCALARS, list, Mapping)) and not is_object(value))


def _is_scalar(value: Any, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _choice_problem(value: Any, choices: tuple[Any, ...], path: KeyPath) -> ConfigError | None:
    if any(value == choice and type(value) is type(choice) for choice in choices):
        return None
    problem = _mismatch(value, f"one of {', '.join(map(show, choices))}", path)
    hint = nearest(value, [choice for choice in choices if isinstance(choice, str)]) if isinstance(value, str) else ""
    return ConfigError(f"{problem}{hint}", path) if "did you mean" in hint else problem


def _list_problem(value: Any, option: Any, path: KeyPath) -> ConfigError | None:
    arguments = typing.get_args(option)
    is_fixed = typing.get_origin(option) is tuple and bool(arguments) and arguments[-1] is not ...
    if not isinstance(value, list) or (is_fixed and len(value) != len(arguments)):
        return _mismatch(value, _name(option), path)
    try:
        for index, item in enumerate(value):
            if arguments:
                check_type(item, arguments[index if is_fixed else 0], (*path, index))
    except ConfigError as error:
        return error
    return None


def _mapping_problem(value: Any, option: Any, path: KeyPath) -> ConfigError | None:
    if not isinstance(value, Mapping):
        return _mismatch(value, _name(option), path)
    arguments = typing.get_args(option)
    try:
        for key, item in value.items():
            if len(arguments) == 2:
                check_type(key, arguments[0], path)
                check_type(item, arguments[1], (*path, key))
    except ConfigError as error:
        return error
    return None


def _mismatch(value: Any, expected: str, path: KeyPath) -> ConfigError:
    hint = ""
    if isinstance(value, str) and expected.startswith("list"):
        hint = f"; write [{value}]"
    elif isinstance(value, float) and value.is_integer() and "int" in expected.split():
        hint = f"; write {int(value)}"
    elif isinstance(value, int) and not isinstance(value, bool) and "str" in expected.split():
        hint = f"; write '{value}'"
    return ConfigError(f"expected {expected}, got {show(value)}{hint}", path)


def _name(option: Any) -> str:
    origin, arguments = typing.get_origin(option) or option, typing.get_args(option)
    if origin is Literal:
        return f"one of {', '.join(map(show, arguments))}"
    if origin is type(None):
        return "null"
    if origin in LISTS:
        if origin is tuple and arguments and arguments[-1] is not ...:
            return f"list of {len(arguments)}"
        inner = _name(arguments[0]) if arguments and arguments[0] in _SCALARS else ""
        return f"list of {inner}" if inner else "list"
    if origin in MAPPINGS:
        return "mapping"
    return str(getattr(origin, "__name__", origin))


def show(value: Any) -> str:
    """Return ``value`` as an error names it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, Mapping) and not is_object(value):
        return "a mapping"
    if not isinstance(value, str | int | float):
        name = value["class"] if isinstance(value, Mapping) else getattr(value, "name", type(value).__name__)
        return f"an object of class {name}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…{text[0] if isinstance(value, str) else ''}"
