"""What there is to know of a hook before it is used."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from ..abstract_hook import EVENTS, HANDED_OVER, AbstractHook
from ..config.annotations import alternatives
from ..config.arguments import Arguments
from ..config.documented import argument_defaults, argument_docs, summary

FIELD = re.compile(r"^:\w+(?: [^:]*)?:", re.MULTILINE)
EXAMPLE = re.compile(r"\.\. code-block:: yaml\n\n((?:(?: +.*)?\n?)*)")
MODULE = re.compile(r"\b(?:[a-z_]\w*\.)+(?=\w)")


@dataclass(frozen=True)
class ExplainedHook:
    """What there is to know of a hook, from its docstring and its signature.

    :param name: what a config calls it
    :param concern: the folder of the package that it stands in; empty for one from elsewhere
    :param summary: what it does, in one line
    :param text: what else is to be said
    :param arguments: of each its type, whether it has to be given, its default, and its meaning
    :param renamed: arguments that emloop's hook of this name has, and what has become of them
    :param events: at which it acts, besides being registered
    :param training_only: whether it is left out of evaluations
    :param example: how it stands in a config
    """

    name: str
    concern: str
    summary: str
    text: str
    arguments: dict[str, dict[str, Any]]
    renamed: dict[str, str]
    events: list[str]
    training_only: bool
    example: str

    @classmethod
    def of(cls, name: str, hook: type[AbstractHook]) -> ExplainedHook:
        """Find out what there is to know of a hook."""
        doc = inspect.cleandoc(hook.__dict__.get("__doc__") or "")
        example = EXAMPLE.search(doc)
        parts = hook.__module__.split(".")
        return cls(
            name=name,
            concern=parts[2] if parts[:2] == ["emloop_mtl", "hooks"] and len(parts) > 3 else "",
            summary=summary(hook),
            text=_text(doc),
            arguments=_arguments(hook),
            renamed=dict(hook.renamed),
            events=acting(hook),
            training_only=hook.training_only,
            example="" if example is None else textwrap.dedent(example[1]).strip("\n"),
        )


def acting(hook: AbstractHook | type[AbstractHook]) -> list[str]:
    """Return the events at which a hook acts."""
    functions = {event: getattr(hook, event) for event in EVENTS}
    return [
        event
        for event, each in functions.items()
        if getattr(each, "__func__", each) is not getattr(AbstractHook, event)
    ]


def _text(doc: str) -> str:
    """Return what stands between the first paragraph of a docstring and what it says of the arguments."""
    ends = [match.start() for match in (FIELD.search(doc), EXAMPLE.search(doc)) if match]
    _, _, rest = doc[: min(ends, default=len(doc))].partition("\n\n")
    return rest.replace("``", "`").strip()


def _arguments(hook: type[AbstractHook]) -> dict[str, dict[str, Any]]:
    known = Arguments.of(hook)
    docs, defaults = argument_docs(hook), argument_defaults(hook)
    own: Mapping[str, Any] = {} if known is None else {**known.named, **known.accepted}
    return {
        name: {
            "type": _type(annotation),
            "required": name not in defaults,
            "default": plain(defaults.get(name)),
            "meaning": docs.get(name, ""),
        }
        for name, annotation in own.items()
        if name not in HANDED_OVER or name in docs
    }


def _type(annotation: Any) -> str:
    if annotation is Any or annotation is inspect.Parameter.empty:
        return "any"
    return " | ".join(map(_alternative, alternatives(annotation)))


def _alternative(option: Any) -> str:
    if get_origin(option) is Literal:  # people choose a word, and need not know what it is called to have a few
        return " | ".join(map(repr, get_args(option)))
    if option is type(None):
        return "None"
    return MODULE.sub("", option if isinstance(option, str) else inspect.formatannotation(option))


def plain(value: Any) -> Any:
    """Return a default as YAML and JSON know it; objects as their text."""
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, float) and value - value != 0:
        return str(value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)
