"""Tasks that are run as one."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

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
        if start.is_source:
            self._source = str(start.path[0])
        self._action = start.name
        self.tail = StackedTail([[(action.module, network[action.module]) for action in tail] for tail in self._tails])
        self.actions = {
            action.name: (link, number) for number, tail in enumerate(self._tails) for link, action in enumerate(tail)
        }
        """What is run here: the name of an action -> its place in the tail, and the number of its task."""
        self._modules = {name: network[name] for tail in self._tails for name in (action.module for action in tail)}
        self._loss = tasks[0].loss
        self._weights: tuple[list[float], Tensor] | None = None

    def cut(self, task: Task) -> Task:
        """Return a task of the stack without the actions that are run here."""
        rest = copy.copy(task)
        rest.flow = tuple(action for action in task.flow if action.name not in self.actions)
        return rest

    def is_intact(self, network: nn.ModuleDict) -> bool:
        """Whether nobody has exchanged modules or weights, frozen some, or asked to be told when a module runs."""
        known = network._modules
        return all(known.get(name) is module for name, module in self._modules.items()) and self.tail.is_intact()

    def run(self, flow: Mapping[str, Any], batch: Mapping[str, Any]) -> list[Tensor]:
        """Return what each link of the tail returns.

        :param flow: what the other actions have returned
        :param batch: the sources
        """
        return self.tail(flow[self._action] if self._source is None else batch[self._source])

    def losses(self, values: Sequence[Tensor], labels: StackedLabels) -> Tensor | None:
        """Return the losses of the tasks, [tasks], not weighted; None where they have to be computed apart.

        :param values: what ``run`` has returned
        """
        output = values[-1]
        if self._loss is None or output.dim() != 3:
            return None
        rows, tasks, _ = output.shape
        target, labelled = labels.values, labels.labelled
        if target.shape[:2] != (tasks, rows):
            return None
        # Tasks first, where that is how the output lies in memory already.
        output, over = output.transpose(0, 1), 1
        if not output.is_contiguous():
            output, over = output.transpose(0, 1), 0
            target = target.transpose(0, 1)
            labelled = None if labelled is None else labelled.transpose(0, 1)
        if labelled is not None:  # so that what an unlabelled row makes of its input leaves no trace
            output = output.masked_fill(~labelled.unsqueeze(-1), 0)
        loss = self._loss.per_row(output.flatten(0, 1), target.flatten(0, 1)).view(output.shape[:2])
        if labelled is None or labels.counts is None:
            return loss.mean(over)
        return loss.where(labelled, 0).sum(over) / labels.counts

    def total(self, losses: Tensor) -> Tensor:
        """Return the sum of the losses of the tasks, each by its weight."""
        weights = [task.weight for task in self.tasks]
        if weights.count(1) == len(weights):
            return losses.sum()
        if self._weights is None or self._weights[0] != weights:
            self._weights = weights, torch.tensor(weights, dtype=losses.dtype).to(losses.device, non_blocking=True)
        return losses @ self._weights[1]

    def probabilities(self, values: Sequence[Tensor]) -> Tensor | None:
        """Return what the tasks say about each row, [tasks, rows, ...]; None where that is to be asked of each."""
        output = values[-1].detach()
        if output.dim() != 3:
            return None
        output = output.transpose(0, 1)
        name = self.tasks[0].output_name
        prob = self.tasks[0].output.probabilities({name: output.flatten(0, 1)}, name)
        return prob.view(*output.shape[:2], *prob.shape[1:])

    def predictions(self, prob: Tensor) -> Tensor:
        """Return what the tasks predict, [tasks, rows, ...].

        :param prob: what ``probabilities`` has returned
        """
        pred = self.tasks[0].predictions(prob.flatten(0, 1))
        return pred.view(*prob.shape[:2], *pred.shape[1:])
