"""The labels of tasks that are run as one, joined where a batch is made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch

from ..data.batch import Batch
from ..errors import DataError
from ..tasks.stacked_labels import StackedLabels
from ..tasks.target import Target
from ..tasks.task import Task
from ..tasks.task_stack import TaskStack
from .device_copy import to_device


class LabelJoin:
    """Checks and joins the labels of a stack's tasks in batches of one kind, in a few operations for all of them.

    :param stack: the tasks
    :param sources: task name -> its label source
    """

    def __init__(self, stack: TaskStack, sources: Mapping[str, str | None]) -> None:
        named = [(task, sources[task.name]) for task in stack.tasks]
        self.stack = stack
        labels = [(task, label) for task, label in named if label is not None]
        self.labels: tuple[tuple[Task, str], ...] = tuple(labels)
        """The tasks with their label sources; all of the stack's, or none."""
        loss = stack.tasks[0].loss
        self._target = Target.OTHER if loss is None else loss.target
        self._sources = tuple(label for _, label in self.labels)

    @classmethod
    def find(cls, stacks: Iterable[TaskStack], sources: Mapping[str, str | None]) -> list[LabelJoin]:
        """Return the labels of the stacks that can be run as one: all of their tasks have labels, or none has.

        :param sources: task name -> its label source
        """
        found = []
        for stack in stacks:
            given = [sources[task.name] is not None for task in stack.tasks]
            # A task that has no label by its nature has a loss all the same.
            if all(given) or not (any(given) or any(task.label is None for task in stack.tasks)):
                found.append(cls(stack, sources))
        return found

    def prepare(self, batch: Batch, device: torch.device) -> bool:
        """Check the labels of a batch, join them, find those that are missing, and bring them to the device.

        :return: whether that was done; otherwise it is to be done for each task by itself, which also says what is
            wrong with a label
        """
        if not self.labels or not batch.rows.keys().isdisjoint(self.stack.names):
            return False
        stacked = self._joined(batch)
        if stacked is None:
            return False
        task, source = self.labels[0]
        try:
            rows = task.check_labels(stacked.values.flatten(0, 1), source)
        except DataError:
            return False
        if rows is not None:
            for name, some in zip(self.stack.names, stacked.keep(rows), strict=True):
                if some is not None:
                    batch.rows[name] = some
        batch.stacked[self.stack] = stacked.to(device)
        if stacked.labelled is not None:
            for source in self._sources:
                batch[source] = to_device(batch[source], device)
        elif batch[source].device != device:
            batch.update(zip(self._sources, stacked.values.unbind(), strict=True))
        return True

    def of(self, batch: Batch) -> StackedLabels | None:
        """Return the joined labels of a prepared batch, None if they do not go together."""
        if not self.labels:
            return None
        stacked: StackedLabels | None = batch.stacked.get(self.stack)
        if stacked is None:  # as of a batch that was prepared before the tasks were stacked
            stacked = self._joined(batch)
            if stacked is not None:
                batch.stacked[self.stack] = stacked
        return stacked

    def _joined(self, batch: Batch) -> StackedLabels | None:
        rows = batch.rows
        known = [rows.get(name) for name in self.stack.names] if rows else []
        return StackedLabels.of([batch[source] for source in self._sources], known, self._target)
