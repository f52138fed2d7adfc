"""Tasks that are run as one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .action_input import follow
from .stackable import tail_of
from .stacked_labels import StackedLabels
from .stacked_tail import StackedTail
from .task import Task


class TaskStack:
    """Tasks whose remaining flow is the same, run as one: their last actions, losses, probabilities and predictions.

    :param tasks: tasks that ``find_stacks`` has put together
    :param network: all modules
    :param known: all tasks
    """

    def __init__(self, tasks: Sequence[Task], network: nn.ModuleDict, known: Sequence[Task]) -> None:
        self.tasks = tuple(tasks)
        self.names = tuple(task.name for task in tasks)
        self._tails = [tail_of(task, known) for task in tasks]
        start = self._tails[0][0].inputs[0]
        self._source = None if any(start.name == action.name for action in tasks[0].flow) else start.name
        self._path = start.path
        """Which part of an action's output it begins with."""
        if start.is_source:
            self._source, self._path = str(start.path[0]), ()
        self._action = start.name
        self.tail = StackedTail([[(action.module, network[action.module]) for action in tail] for tail in self._tails])
        self.actions = {
            action.name: (link, number) for number, tail in enumerate(self._tails) for link, action in enumerate(tail)
        }
        """What is run here: the name of an action -> its place in the tail, and the number of its task."""
        self._modules = {name: network[name] for tail in self._tails for name in (action.module for action in tail)}
        self._loss = tasks[0].loss
        self._known_weights: list[float] = []
        self._made: dict[str, tuple[object, Tensor]] = {}

    def cut(self, task: Task) -> Task:
        """Return a task of the stack without the actions that are run here."""
        rest = copy.copy(task)
        rest.flow = tuple(action for action in task.flow if action.name not in self.actions)
        return rest

    def is_intact(self, network: nn.ModuleDict) -> bool:
        """Whether nobody has exchanged modules or weights, frozen some, or asked to be told when a module runs."""
        return self._modules.items() <= network._modules.items() and self.tail.is_intact()

    def run(self, flow: Mapping[str, Any], batch: Mapping[str, Any]) -> list[Tensor]:
        """Return what each link of the tail returns.

        :param flow: what the other actions have returned
        :param batch: the sources
        """
        value = flow[self._action] if self._source is None else batch[self._source]
        return self.tail(follow(value, self._path) if self._path else value)

    def losses(
        self, values: Sequence[Tensor], labels: StackedLabels, parts: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, Tensor] | None:
        """Return the losses of the tasks, [tasks], and the sum of these by their weights, which alone has gradients.

        :param values: what ``run`` has returned
        :param parts: gets the part of each task in that sum, with its graph; None where nobody looks at them
        :return: None where the losses have to be computed apart
        """
        output = values[-1]
        if self._loss is None or output.dim() != 3:
            return None
        target, labelled = labels.values, labels.labelled
        if target.shape[:2] != (len(self.tasks), output.shape[0]):
            return None
        output, is_tasks_first = _as_it_lies(output)
        if not is_tasks_first:
            target = target.transpose(0, 1)
            labelled = None if labelled is None else labelled.transpose(0, 1)
        if labelled is not None:  # so that what an unlabelled row makes of its input leaves no trace
            output = output.masked_fill(~labelled.unsqueeze(-1), 0)
        loss = self._loss.per_row(output, target)
        rows = 1 if is_tasks_first else 0
        with torch.no_grad():
            if labelled is None or labels.counts is None:
                losses, share = loss.mean(rows), self._share(loss, rows)
            else:
                losses = loss.where(labelled, 0).sum(rows) / labels.counts
                share = labelled * (self._weights(loss) / labels.counts).unsqueeze(rows)
        if parts is not None:
            parts.update(zip(self.names, (loss * share).sum(rows).unbind(), strict=True))
        # One operation forward and one backward, where means and their sum would be three.
        return losses, torch.dot(loss.flatten(), share.flatten())

    def total(self, losses: Tensor, parts: dict[str, Tensor] | None = None) -> Tensor:
        """Return the sum of the losses of the tasks, each by its weight.

        :param parts: gets the part of each task in that sum, with its graph; None where nobody looks at them
        """
        weights = self._weights(losses)
        if parts is not None:
            parts.update(zip(self.names, (losses * weights).unbind(), strict=True))
        return torch.dot(losses, weights)

    def _weights(self, losses: Tensor) -> Tensor:
        """Return the weights of the tasks, [tasks], alike in dtype and device."""
        return self._kept("weights", (losses.dtype, losses.device), partial(self._make_weights, losses))

    def _share(self, loss: Tensor, rows: int) -> Tensor:
        """Return what each row's loss counts in the sum of the losses, all rows being labelled.

        :param loss: [tasks, rows] or [rows, tasks]
        :param rows: which dimension is that of the rows
        """
        kind = rows, loss.shape, loss.dtype, loss.device
        return self._kept("share", kind, partial(self._make_share, loss, rows))

    def _kept(self, name: str, kind: object, make: Callable[[], Tensor]) -> Tensor:
        """Return what was made before for tasks of the same weights, and anew where these or ``kind`` have changed."""
        weights = [task.weight for task in self.tasks]
        if weights != self._known_weights:
            self._known_weights = weights
            self._made.clear()
        known, value = self._made.get(name, (None, None))
        if value is None or known != kind:
            with torch.inference_mode(False):  # what is made in that mode could not be trained with later
                value = make()
            self._made[name] = kind, value
        return value

    def _make_weights(self, losses: Tensor) -> Tensor:
        weights = torch.tensor(self._known_weights, dtype=losses.dtype)
        return weights.to(losses.device, non_blocking=True)

    def _make_share(self, loss: Tensor, rows: int) -> Tensor:
        return (self._make_weights(loss) / loss.shape[rows]).unsqueeze(rows).expand_as(loss).contiguous()

    @torch.no_grad()
    def readings(self, values: Sequence[Tensor], prob: bool, pred: bool) -> dict[str, Tensor] | None:
        """Return what somebody reads of each row, ``prob`` and ``pred``, [tasks, rows, ...].

        :param values: what ``run`` has returned
        :param prob: whether somebody reads probabilities
        :param pred: whether somebody reads predictions
        :return: None where that is to be asked of each task
        """
        if values[-1].dim() != 3:
            return None
        task = self.tasks[0]
        output, is_tasks_first = _as_it_lies(values[-1].detach())
        found = {}
        # torch finds probabilities faster with the classes second, and the largest of them with the classes last.
        if prob:
            told = task.probabilities({task.output_name: output.transpose(1, 2)})
            found["prob"] = (told.transpose(1, 2) if is_tasks_first else told.movedim(-1, 0)).contiguous()
        if pred and prob:
            rows = found["prob"]
            predicted = task.predictions(rows.flatten(0, 1))
            found["pred"] = predicted.view(*rows.shape[:2], *predicted.shape[1:])
        elif pred:
            predicted = task.predict({task.output_name: output.flatten(0, 1)})
            predicted = predicted.view(*output.shape[:2], *predicted.shape[1:])
            found["pred"] = (predicted if is_tasks_first else predicted.transpose(0, 1)).contiguous()
        return found


def _as_it_lies(output: Tensor) -> tuple[Tensor, bool]:
    """Return an output with the tasks first, [tasks, rows, classes], if it lies so in memory, or with the rows first.

    :param output: [rows, tasks, classes]
    """
    turned = output.transpose(0, 1)
    return (turned, True) if turned.is_contiguous() else (output, False)
