"""What docstrings say of a class or function and of its arguments."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

_FIELD = re.compile(r"^:(\w+)(?: ([^:]*))?:", re.MULTILINE)


def summary(target: Callable[..., Any]) -> str:
    """Return the first paragraph of a docstring on one line; empty if there is none."""
    text = _own_doc(target)
    before = text[: match.start()] if (match := _FIELD.search(text)) else text
    return _plain(before.strip())


def argument_docs(target: Callable[..., Any]) -> dict[str, str]:
    """Return what is said of the arguments by name, those of base classes included."""
    docs: dict[str, str] = {}
    for part in _parts(target):
        for name, text in _fields(_own_doc(part)):
            docs.setdefault(name, text)
    return docs


def argument_defaults(target: Callable[..., Any]) -> dict[str, Any]:
    """Return the defaults of the arguments that have one by name, those of base classes included."""
    defaults: dict[str, Any] = {}
    seen: set[str] = set()
    for part in _parts(target):
        function = part.__dict__.get("__init__") if isinstance(part, type) else part
        try:
            parameters = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
        except (TypeError, ValueError):
            continue
        for parameter in parameters:
            if parameter.name not in seen and parameter.default is not parameter.empty:
                defaults[parameter.name] = parameter.default
            seen.add(parameter.name)
    return defaults


def _parts(target: Callable[..., Any]) -> tuple[Any, ...]:
    """Return what the arguments of a call are described by: of a class, itself and its bases."""
    return target.__mro__ if isinstance(target, type) else (target,)


def _own_doc(target: Any) -> str:
    own = target.__dict__.get("__doc__") if isinstance(target, type) else getattr(target, "__doc__", None)
    return inspect.cleandoc(own) if isinstance(own, str) else ""


def _fields(text: str) -> Iterator[tuple[str, str]]:
    """Yield each ``:param name:`` with its text, which ends before the next field or an empty line."""
    for match in _FIELD.finditer(text):
        if match[1] == "param" and match[2]:
            rest = text[match.end() :]
            following = _FIELD.search(rest)
            yield match[2].split()[-1].lstrip("*"), _plain(rest[: following.start() if following else None])


def _plain(text: str) -> str:
    return " ".join(text.split("\n\n")[0].replace("``", "`").split())
