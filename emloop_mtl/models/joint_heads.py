"""The heads of tasks that have ids."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from torch import nn

from ..errors import ConfigError
from .head import Head

DEFAULT_LOSS, DEFAULT_METRICS = "cross_entropy", ["accuracy"]

_T = TypeVar("_T")


def joint_heads(heads: Any, label: str) -> Any:
    """Return the heads by name, with what each does not say itself.

    :param heads: id or name -> ``Head`` or module; what is no mapping is returned as it is
    :param label: the source of the labels of those that name none
    :raise ConfigError: for ids that cannot be told apart, or are no whole numbers
    """
    if not isinstance(heads, Mapping):
        return heads
    numbers: dict[int, str] = {}
    for key in heads:
        if isinstance(key, bool) or not isinstance(key, str | int) or (isinstance(key, int) and key < 0):
            text = f"{key!r} cannot be the id of a task; take a whole number, 0 or more, or a name"
            raise ConfigError(text, ("heads", str(key)))
        if str(key).isdecimal():
            if int(key) in numbers:
                raise ConfigError(f"two heads have the id {int(key)}", ("heads", key))
            numbers[int(key)] = str(key)
    if numbers and len(numbers) < len(heads):
        other = next(key for key in heads if str(key) not in numbers.values())
        text = f"{other!r} is no id, but other heads have ids ({', '.join(numbers.values())})"
        raise ConfigError(f"{text}; take whole numbers or names for all", ("heads", other))
    return {str(key): _completed(head, label) for key, head in heads.items()}


def numbered(names: Iterable[str]) -> dict[int, str]:
    """Return the names of heads by the ids that they are, or by their places where they are none."""
    names = list(names)
    return {int(name): name for name in names} if names and names[0].isdecimal() else dict(enumerate(names))


def with_names(settings: Mapping[int | str, _T] | None) -> Any:
    """Return settings of heads by their names; what is no mapping is returned as it is."""
    return {str(key): value for key, value in settings.items()} if isinstance(settings, Mapping) else settings


def _completed(head: Any, label: str) -> Any:
    """Return a head with label, loss and metrics; what is none is returned as it is."""
    if isinstance(head, nn.Module):
        head = Head(head)
    if not isinstance(head, Head):
        return head
    full = copy.copy(head)
    full.label = label if full.label is None else full.label
    full.loss = DEFAULT_LOSS if full.loss is None else full.loss
    if full.loss == DEFAULT_LOSS and full.metrics is None and full.scorer is None:
        full.metrics = DEFAULT_METRICS
    return full
