"""One batch, with what the engine knows about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from .mix import Mix
from .origin import Origin
from .share import Share

_NO_MASKS: Mapping[str, str] = {}


class Batch(dict[str, Any]):
    """Source names (later also output names) -> tensors, arrays or lists of equal length.

    :param sources: the values by source name
    :param tasks: task name -> its label source, None for a task without labels; when empty, the model that the
        batch is prepared for fills in all its tasks whose label source the batch holds
    :param data_name: the name of the loader that made the batch
    :param split: the split of that loader
    :param rows: task name -> int64 indices of the rows that have a label; a task is absent when all rows have one. Of a
        task of tokens, always those of the tokens that have one, counted through all rows and their padding
    :param ends_step: whether a step of the task scheduler ends with this batch
    :param size: number of samples; None until counted
    """

    __slots__ = (
        *("data_name", "ends_step", "kind", "masks", "mix", "number", "origin", "prepared", "rows", "shares", "size"),
        *("split", "stacked", "tasks"),
    )

    def __init__(
        self,
        sources: Mapping[str, Any] | Iterable[tuple[str, Any]] = (),
        *,
        tasks: Mapping[str, str | None] | None = None,
        data_name: str = "",
        split: str = "",
        rows: Mapping[str, torch.Tensor] | None = None,
        ends_step: bool = True,
        size: int | None = None,
    ) -> None:
        super().__init__(sources)
        self.tasks: dict[str, str | None] = dict(tasks) if tasks else {}
        self.data_name = data_name
        self.split = split
        self.rows: dict[str, torch.Tensor] = dict(rows) if rows else {}
        self.ends_step = ends_step
        self.size = size
        self.prepared = False
        self.number: int | None = None
        """Which batch of its pass through a stream it is, from 0; None where nobody has counted."""
        self.origin: tuple[Origin, tuple[tuple[str, Any], ...]] | None = None
        """The columns that its values are copies of, and these values by name; until the batch is prepared."""
        self.shares: dict[str, Share] = {}
        """Task name -> the rows that the task is about, labelled or not; a task is absent when it is about all rows."""
        self.masks: Mapping[str, str] = _NO_MASKS
        """Task of tokens -> the source that is True where sequences are padded, which need not be there."""
        self.mix: Mix | None = None
        """The loaders whose rows it holds, where it is mixed of several."""
        self.stacked: dict[Any, Any] = {}
        """What the model that has prepared the batch has joined of it, for tasks that it runs as one."""
        self.kind: Any = None
        """What the model that has prepared the batch knows of all batches of its kind; None where it tells nothing."""

    def copy(self) -> Batch:
        """Return a shallow copy: its sources can be added to without changing this batch."""
        twin = Batch(
            self,
            tasks=self.tasks,
            data_name=self.data_name,
            split=self.split,
            rows=self.rows,
            ends_step=self.ends_step,
            size=self.size,
        )
        twin.prepared = self.prepared
        twin.number = self.number
        twin.kind = self.kind
        twin.masks = self.masks
        twin.mix = self.mix
        twin.shares = dict(self.shares)
        twin.stacked = dict(self.stacked)
        return twin

    def data_name_of(self, task: str) -> str:
        """Return what the data of a task is called in its scores."""
        return self.data_name if self.mix is None else self.mix.data_names.get(task, self.data_name)

    @property
    def place(self) -> str:
        """Its number and its loader, for messages."""
        loader = f"loader {self.data_name!r}" if self.data_name else ""
        number = "" if self.number is None else f"batch {self.number}"
        return ", ".join(filter(None, (number, loader)))

    def count(self) -> int | None:
        """Return the number of samples: ``size``, or else the length of the first source, None if it has none."""
        if self.size is None:
            try:
                first = next(iter(self.values()), ())
                # A tensor's own len() takes three times as long.
                self.size = first.shape[0] if type(first) is torch.Tensor and first.ndim else len(first)
            except TypeError:
                return None
        return self.size
