"""How batches are run some of whose tasks are one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from ..data.batch import Batch
from ..tasks.plan import Plan
from ..tasks.task import Task
from ..tasks.task_network import TaskNetwork
from .batch_run import BatchRun
from .label_join import LabelJoin
from .plan_compiler import PlanCompiler
from .stack_run import StackRun
from .task_run import TaskRun


class StackedBatchRun(BatchRun):
    """Runs batches like ``BatchRun``, with the same outputs in the same order, but the tasks of each stack as one.

    :param network: the modules
    :param tasks: the tasks of the batches, in their order
    :param labels: task name -> its label source
    :param joins: the stacks, with their labels
    :param unchecked: the names of tasks whose labels their losses check
    :param outputs: names of the outputs that somebody reads; None for all
    :param device: where the loss is made if no task has one
    :param precision: what autocast computes in; None for no autocast
    :param compiler: compiles what is run one by one; None for none that is compiled
    """

    def __init__(
        self,
        network: TaskNetwork,
        tasks: Sequence[Task],
        labels: Mapping[str, str | None],
        joins: Sequence[LabelJoin],
        unchecked: Collection[str],
        outputs: frozenset[str] | None,
        device: torch.device,
        precision: torch.dtype | None,
        compiler: PlanCompiler | None = None,
    ) -> None:
        super().__init__(network, tasks, unchecked, outputs, device, precision, compiler)
        self._apart = BatchRun(network, tasks, unchecked, outputs, device, precision, compiler)
        runs = {entry.task.name: entry for entry in self._tasks}
        self._names = [name for entry in self._tasks for name in output_names(entry, labels[entry.task.name])]
        self._stacks = [StackRun(join, [runs[name] for name in join.stack.names]) for join in joins]
        self._trains = all(stack.has_labels for stack in self._stacks)
        stack_of = {name: join.stack for join in joins for name in join.stack.names}
        self._tasks = [entry for entry in self._tasks if entry.task.name not in stack_of]
        rest = [stack_of[task.name].cut(task) if task.name in stack_of else task for task in tasks]
        self._set_plan(Plan(rest))

    def forward(
        self, batch: Batch, train: bool, parts: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Any]]:
        """Return the model's loss, which gradients flow from, and the outputs by name, which have none.

        :param batch: a prepared batch
        :param train: whether it is trained on, so that every task with a loss needs its labels
        :param parts: gets the part of each task in the loss, with its graph; None where nobody looks at them
        :raise DataError: if it lacks labels that it needs
        """
        if train and not self._trains:
            return self._apart.forward(batch, train, parts)
        try:
            return self._run(batch, train, parts)
        except Exception:
            # What is wrong is said of one task, with the text that there is for it.
            self._apart.forward(batch, train)
            raise

    def _run(self, batch: Batch, train: bool, parts: dict[str, Tensor] | None) -> tuple[Tensor, dict[str, Any]]:
        flow = self._run_flow(batch)
        with self._autocast or nullcontext():
            values = [stack.run(flow, batch) for stack in self._stacks]
        outputs: dict[str, Any] = dict.fromkeys(self._names)
        total: Tensor | None = None
        for stack, returned in zip(self._stacks, values, strict=True):
            loss = stack.add(returned, flow, batch, outputs, parts)
            if loss is not None:
                total = loss if total is None else total + loss
        return self._add_tasks(flow, batch, train, total, outputs, parts)


def output_names(entry: TaskRun, label: str | None) -> list[str]:
    """Return the names of a task's outputs in their order."""
    task = entry.task
    names = [entry.loss] if task.loss is not None and (label is not None or task.label is None) else []
    names += [name for kind, name in (("prob", entry.prob), ("pred", entry.pred)) if kind in entry.reads]
    return names + (task.action_output_names if "action outputs" in entry.reads else [])
