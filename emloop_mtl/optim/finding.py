"""A batch that was trained on, and what there is to know about its loss and its gradients."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..constants import UID_SOURCE
from ..data.batch import Batch
from ..data.batch_place import BatchPlace

SHOWN = 3
"""So many names of one kind are shown; of more, how many there are."""

TOTAL = "loss"
"""The output that is the model's loss."""


@dataclass
class Finding:
    """A batch that may be bad; it holds on to the batch until that is known.

    :param batch: the batch
    :param outputs: what the model has made of it
    :param stream: the stream that it is of, empty if it was run without one
    :param step: the step that it is of, counted from 1
    """

    batch: Batch
    outputs: Mapping[str, Any]
    stream: str
    step: int
    names: Sequence[str] = ()
    """The parameters whose gradients were looked at."""
    largest: Tensor | None = None
    """The largest number of each of these gradients."""
    is_of_window: bool = False
    """Whether they are those of a whole window, so that it may have been another batch of it."""

    @property
    def place(self) -> BatchPlace:
        """Where the batch was met."""
        batch = self.batch
        uids = batch.get(UID_SOURCE)
        return BatchPlace(None, self.stream, self.step, batch.number, batch.data_name, tuple(batch.tasks), uids)

    @property
    def sources(self) -> dict[str, Any]:
        """What the batch holds beside the model's outputs, which a main loop has added to it."""
        return {name: value for name, value in self.batch.items() if name not in self.outputs}

    def losses(self) -> dict[str, float]:
        """Return the losses of the tasks, and the model's, by the names of these outputs."""
        names = [name for task in self.batch.tasks if (name := f"{task}/{TOTAL}") in self.outputs]
        return {name: float(self.outputs[name]) for name in [*names, TOTAL]}

    def gradients(self) -> dict[str, float]:
        """Return the size of the largest number of each gradient that was looked at, by parameter."""
        largest = [] if self.largest is None else self.largest.tolist()
        return dict(zip(self.names, largest, strict=True))

    def describe(self) -> str:
        """Return what is not finite, and where."""
        losses, gradients = not_finite(self.losses()), not_finite(self.gradients())
        tasks = {name.removesuffix(f"/{TOTAL}"): value for name, value in losses.items() if name != TOTAL}
        if tasks:
            value = ", ".join(dict.fromkeys(map(str, tasks.values())))
            what = f"the loss of task {shown(tasks)} is {value}"
        elif losses:
            what = f"the loss of the model is {losses[TOTAL]}, those of the tasks are finite"
        else:
            values = ", ".join(dict.fromkeys(map(str, gradients.values())))
            what = f"the gradient of {shown(gradients)} is {values}, the loss is finite"
        window = ", or another of its window" if self.is_of_window else ""
        return f"{what}: {self.place}{window}"


def not_finite(numbers: Mapping[str, float]) -> dict[str, float]:
    """Return those of some numbers that are nan or infinite."""
    return {name: number for name, number in numbers.items() if not math.isfinite(number)}


def shown(names: Collection[str]) -> str:
    """Return the first of some names, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(map(repr, listed[:SHOWN])) + more
