"""One input of an action: whose value, and which part of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from ..errors import ConfigError

INPUT = "_input_"
"""The name under which all sources of a batch are found among the outputs of a flow."""

InputForm: TypeAlias = "str | tuple[str, str | int] | ActionInput"
"""How an input is written: ``"x"``, ``"x[0]"``, ``"x.key"`` or ``("x", 0)``."""

_STEP = re.compile(r"\.(?P<key>[^.\[\]]+)|\[(?P<index>[^\[\]]+)\]")
_FORM = re.compile(
    rf"(?P<name>[^.\[\]]+)(?P<path>(?:{_STEP.pattern.replace('?P<key>', '').replace('?P<index>', '')})*)"
)
_INTEGER = re.compile(r"[+-]?\d+")


@dataclass(frozen=True, slots=True)
class ActionInput:
    """A source or an action's output, or the part of it that ``path`` leads to.

    :param name: the source or action; ``_input_`` stands for all sources, so that ``("_input_", "image")`` is the
        source ``image`` for certain
    :param path: indices and keys to follow, mostly none or one
    """

    name: str
    path: tuple[str | int, ...] = ()

    @classmethod
    def parse(cls, form: InputForm) -> ActionInput:
        """Read any of the written forms.

        :param form: a string such as ``features``, ``features[0]`` or ``features.hidden``, or a pair
            ``("features", 0)``; a tuple is always one input, never several
        :raise ConfigError: for anything else
        """
        if isinstance(form, ActionInput):
            return form
        if isinstance(form, str):
            match = _FORM.fullmatch(form.strip())
            if match is None:
                raise ConfigError(f"cannot read input {form!r}; write 'x', 'x[0]' or 'x.key'")
            return cls(match["name"].strip(), tuple(map(_key, _STEP.finditer(match["path"]))))
        is_pair = isinstance(form, tuple) and len(form) == 2 and isinstance(form[0], str)
        if is_pair and isinstance(form[1], str | int) and not isinstance(form[1], bool):
            return cls(form[0], (form[1],))
        raise ConfigError(
            f"cannot read input {form!r}; write 'x', 'x[0]', 'x.key' or a pair ('x', 0), and several as a list"
        )

    @property
    def is_source(self) -> bool:
        """Whether this is certainly a source, or all of them, whatever the actions are called."""
        return self.name == INPUT

    @property
    def flat_name(self) -> str:
        """The input in one word, as action outputs are called: ``features_0``."""
        return "_".join(map(str, (self.name, *self.path)))

    def __str__(self) -> str:
        return self.name + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in self.path)


def follow(value: Any, path: Sequence[str | int]) -> Any:
    """Return the part of ``value`` that ``path`` leads to.

    A mapping is asked for the key, a list or tuple for the item; of anything else, a tensor above all, only item 0
    exists and is the whole value.

    :raise LookupError: if there is no such part
    """
    for key in path:
        value = _part(value, key)
    return value


def _part(value: Any, key: str | int) -> Any:
    if isinstance(value, Mapping):
        if key in value:
            return value[key]
        raise KeyError(f"there is no {key!r} among {', '.join(map(repr, value))}")
    if isinstance(value, list | tuple):
        if isinstance(key, int):
            if -len(value) <= key < len(value):
                return value[key]
            raise IndexError(f"there is no item {key} in a {type(value).__name__} of length {len(value)}")
        if key in getattr(value, "_fields", ()):
            return getattr(value, key)
        raise KeyError(f"a {type(value).__name__} has no {key!r}, only items by number")
    if key in (0, "0"):
        return value
    kind = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else f"a {type(value).__name__}"
    raise IndexError(f"{kind} is one value, so only [0], which is the whole, can be taken of it; got {key!r}")


def _key(match: re.Match[str]) -> str | int:
    text = (match["key"] or match["index"]).strip()
    if _INTEGER.fullmatch(text):
        return int(text)
    if match["key"] is None and text[:1] not in ("'", '"'):
        raise ConfigError(f"cannot read index [{text}]; write a whole number, or '.{text}' for the key of a mapping")
    return text.strip("'\"")
