"""How tasks that are one are run in a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..data.batch import Batch
from ..tasks.nested import map_tensors
from ..tasks.select_rows import connected_zero
from ..tasks.stacked_outputs import StackedOutputs
from .label_join import LabelJoin
from .task_run import TaskRun


class StackRun:
    """The tasks of a stack in batches of one kind, with the outputs that somebody reads.

    :param join: the tasks and their labels
    :param entries: how each would be run by itself
    """

    def __init__(self, join: LabelJoin, entries: Sequence[TaskRun]) -> None:
        self._join = join
        self._stack = join.stack
        self._entries = tuple(entries)
        self._losses = tuple(entry.loss for entry in entries)
        self._probs = [(place, entry.prob) for place, entry in enumerate(entries) if "prob" in entry.reads]
        self._preds = [(place, entry.pred) for place, entry in enumerate(entries) if "pred" in entry.reads]
        self._shared = [
            [action.name for action in entry.task.flow if action.name not in self._stack.actions] for entry in entries
        ]
        self._selecting = [entry.task for entry in entries if "action outputs" in entry.reads]

    @property
    def has_labels(self) -> bool:
        """Whether batches of this kind have labels for the tasks."""
        return bool(self._join.labels)

    def run(self, flow: Mapping[str, Any], batch: Batch) -> list[Tensor]:
        """Return what each link of the tasks' remaining flow returns."""
        return self._stack.run(flow, batch)

    def add(
        self,
        values: Sequence[Tensor],
        flow: Mapping[str, Any],
        batch: Batch,
        outputs: dict[str, Any],
        parts: dict[str, Tensor] | None = None,
    ) -> Tensor | None:
        """Add losses and readings to the outputs, and return the sum of the weighted losses, None without labels.

        :param values: what ``run`` has returned
        :param flow: what the other actions have returned
        :param parts: gets the part of each task in that sum, with its graph; None where nobody looks at them
        """
        total = self._add_losses(values, flow, batch, outputs, parts) if self._join.labels else None
        if self._probs or self._preds:
            self._add_readings(values, flow, outputs)
        if self._selecting:
            every = StackedOutputs(flow, [(self._stack, values)])
            for task in self._selecting:
                # As they are where tasks run apart: tensors of their own, which a view of any shape can be taken of.
                selected = task.select_outputs(every)
                outputs.update({name: map_tensors(value, Tensor.contiguous) for name, value in selected.items()})
        return total

    def _add_losses(
        self,
        values: Sequence[Tensor],
        flow: Mapping[str, Any],
        batch: Batch,
        outputs: dict[str, Any],
        parts: dict[str, Tensor] | None,
    ) -> Tensor:
        labels = self._join.of(batch)
        found = None if labels is None else self._stack.losses(values, labels, parts)
        if found is not None:
            losses, total = found
        else:
            every = StackedOutputs(flow, [(self._stack, values)])
            rows = batch.rows
            losses = torch.stack(
                [task.task_loss(every, batch[label], rows.get(task.name)) for task, label in self._join.labels]
            )
            total = self._stack.total(losses, parts)
        outputs.update(zip(self._losses, losses.detach().unbind(), strict=True))
        if labels is not None and labels.unlabelled:
            # Where a task has no labelled row, all that its flow runs gets a gradient of zero, needed or not.
            reached = [flow[name] for place in labels.unlabelled for name in self._shared[place]]
            total = total + connected_zero(reached).to(total.device)
        return total

    def _add_readings(self, values: Sequence[Tensor], flow: Mapping[str, Any], outputs: dict[str, Any]) -> None:
        found = self._stack.readings(values, bool(self._probs), bool(self._preds))
        if found is None:
            every = StackedOutputs(flow, [(self._stack, values)])
            for entry in self._entries:
                entry._replace(reads=entry.reads - {"action outputs"}).add_readings(every, outputs)
            return
        for kind, places in (("prob", self._probs), ("pred", self._preds)):
            if places:
                parts = found[kind].unbind()
                for place, name in places:
                    outputs[name] = parts[place]
