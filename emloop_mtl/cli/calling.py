"""Calls methods of a dataset."""

from __future__ import annotations

import inspect
import json
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from pprint import pformat
from typing import Any

from ..config.arguments import check_arguments
from ..config.create import create_dataset
from ..config.load import load_config
from ..config.yaml_text import read_yaml
from ..errors import ConfigError, nearest
from ..utils.telling import telling
from .building import building
from .reporting import SIGNAL_BASE

WIDTH = 120
"""Columns of what is printed of a value that is no text."""


def call_dataset(method: str, config_path: Path, words: Sequence[str], as_json: bool) -> None:
    """Build a dataset, call a method, and print what it returns or yields.

    :param words: ``key=value`` each: an argument of the method, or an override of the config if the key has dots
    :param as_json: print JSON, a line for each value that is yielded
    :raise ConfigError: if there is no such method, or it does not take these arguments
    """
    arguments, overrides = _divided(words)
    config = load_config(config_path, overrides)
    with building(config):
        dataset = create_dataset(config)
    call = _method(dataset, method)
    try:
        check_arguments(call, arguments)
    except ConfigError as error:
        names = [f"{name}: " for name in map(str, error.path[:1]) if repr(name) not in str(error)]
        raise ConfigError(f"{type(dataset).__name__}.{method}: {''.join(names)}{error}") from error
    result = call(**arguments)
    if _is_walked(result):
        for value in result:
            _print(value, as_json)
    elif result is not None or as_json:
        _print(result, as_json)


def _divided(words: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    arguments: dict[str, Any] = {}
    overrides = []
    for word in words:
        key, equals, value = word.partition("=")
        where = f"command line: {word}"
        if "." in key and equals:
            overrides.append(word)
        elif not equals or not key.isidentifier():
            raise ConfigError(
                f"{where}: an argument of the method is written name=value; an override has a dot, e.g. dataset.size=3"
            )
        elif key in arguments:
            raise ConfigError(f"{where}: the argument {key!r} is given twice")
        else:
            arguments[key] = read_yaml(value, lambda line, column, where=where: where)[0]  # type: ignore[misc]
    return arguments, overrides


def _method(dataset: Any, name: str) -> Callable[..., Any]:
    kind = type(dataset).__name__
    if name.startswith("__"):
        raise ConfigError(f"{name!r} is no method to be called from here")
    if not hasattr(dataset, name):
        known = [each for each in dir(dataset) if not each.startswith("_") and _is_method(dataset, each)]
        raise ConfigError(f"dataset {kind} has no method {name!r}{nearest(name, known)}")
    found = getattr(dataset, name)
    if not callable(found):
        raise ConfigError(f"{name!r} of dataset {kind} is no method but a {type(found).__name__}")
    return found  # type: ignore[no-any-return]


def _is_method(dataset: Any, name: str) -> bool:
    """Whether an attribute is a method; properties are not computed to find that out."""
    return callable(inspect.getattr_static(dataset, name)) or isinstance(
        inspect.getattr_static(dataset, name), staticmethod | classmethod
    )


def _is_walked(result: Any) -> bool:
    """Whether what a method returns is a generator or a stream, not a value of several parts."""
    if isinstance(result, str | bytes | Mapping | Sequence | AbstractSet) or hasattr(result, "tolist"):
        return False
    return isinstance(result, Iterable)


def _print(value: Any, as_json: bool) -> None:
    if as_json:
        try:
            text = json.dumps(_plain(value), ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise ConfigError(f"--json: what the method returns is not JSON: {error}") from error
    else:
        text = value if isinstance(value, str) else pformat(value, width=WIDTH, sort_dicts=False)
    if sys.stdout is None:  # it was closed before the program began
        return
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError as error:
        with telling("stdout"):
            raise
        raise SystemExit(SIGNAL_BASE + signal.SIGPIPE) from error  # what is yielded may have no end


def _plain(value: Any) -> Any:
    """Return lists and mappings for what has their form: tensors, arrays, tuples, sets, batches."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | AbstractSet):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) or (isinstance(value, float) and value - value != 0) else value
