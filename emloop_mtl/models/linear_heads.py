"""A linear head for each of several tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from ..errors import ConfigError
from .head import Head


class LinearHeads(dict[int | str, Head]):
    """A linear layer for each task, trained with cross entropy and scored by accuracy.

    :param input_dim: how many numbers the backbone returns for a row
    :param classes: id or name of a task -> how many classes it has; a list is for the ids 0, 1, …
    :param label: the source of the labels, as of a ``Head``
    :param missing_label: the number that marks a row without a label
    :param metrics: as of a ``Head``
    :raise ConfigError: for numbers out of range

    .. code-block:: yaml

        heads: {class: LinearHeads, input_dim: 64, classes: {1: 10, 2: 5}}
    """

    def __init__(
        self,
        input_dim: int,
        classes: Mapping[int | str, int] | Sequence[int],
        label: str | None = None,
        missing_label: float | None = None,
        metrics: Sequence[str | Mapping[str, Any]] = ("accuracy",),
    ) -> None:
        if not _is_count(input_dim):
            raise ConfigError(f"input_dim must be a whole number > 0, not {input_dim!r}", ("input_dim",))
        if not isinstance(classes, Mapping | list | tuple) or not classes:
            raise ConfigError(f"classes must map ids of tasks to numbers of classes, not {classes!r}", ("classes",))
        numbers = dict(classes if isinstance(classes, Mapping) else enumerate(classes))
        for key, number in numbers.items():
            if not _is_count(number):
                text = f"task {key!r}: a number of classes must be a whole number > 0, not {number!r}"
                raise ConfigError(text, ("classes", key))
        super().__init__()
        for key, number in numbers.items():
            layer = nn.Linear(input_dim, number)
            self[key] = Head(layer, label, "cross_entropy", missing_label=missing_label, metrics=list(metrics))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
