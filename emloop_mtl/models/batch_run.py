"""How batches of some tasks are run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..data.batch import Batch
from ..tasks.flow_outputs import FlowOutputs
from ..tasks.plan import Plan
from ..tasks.task import Task
from ..tasks.task_network import TaskNetwork
from .plan_compiler import PlanCompiler
from .task_run import TaskRun


class BatchRun:
    """Flow, losses and outputs of batches that carry certain tasks.

    It is made once for a set of tasks and of outputs that somebody reads, so that a step looks nothing up that does
    not depend on its batch.

    :param network: the modules
    :param tasks: the tasks of the batches, in their order
    :param unchecked: the names of tasks whose labels their losses check
    :param outputs: names of the outputs that somebody reads; None for all
    :param device: where the loss is made if no task has one
    :param precision: what autocast computes in; None for no autocast
    :param compiler: compiles flows; None for none that are compiled
    """

    def __init__(
        self,
        network: TaskNetwork,
        tasks: Sequence[Task],
        unchecked: Collection[str],
        outputs: frozenset[str] | None,
        device: torch.device,
        precision: torch.dtype | None,
        compiler: PlanCompiler | None = None,
    ) -> None:
        # A ModuleDict looks up its modules in Python, this dictionary of its own does not.
        self._modules: Mapping[str, Any] = network._modules
        self._compiler = compiler
        self._set_plan(network.plan(tuple(task.name for task in tasks)))
        self._tasks = [TaskRun.of(task, outputs, task.name in unchecked) for task in tasks]
        self._device = device
        self._autocast = None if precision is None else torch.autocast(device.type, precision)

    def forward(
        self, batch: Batch, train: bool, parts: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Any]]:
        """Return the model's loss, which gradients flow from, and the outputs by name, which have none.

        :param batch: a prepared batch
        :param train: whether it is trained on, so that every task with a loss needs its labels
        :param parts: gets the part of each task in the loss, with its graph; None where nobody looks at them
        :raise DataError: if it lacks labels that it needs
        """
        return self._add_tasks(self._run_flow(batch), batch, train, None, {}, parts)

    def _add_tasks(
        self,
        flow: FlowOutputs,
        batch: Batch,
        train: bool,
        total: Tensor | None,
        outputs: dict[str, Any],
        parts: dict[str, Tensor] | None = None,
    ) -> tuple[Tensor, dict[str, Any]]:
        """Add losses and outputs of the tasks that run one by one to those that there are already."""
        labels, rows = batch.tasks, batch.rows
        loss: Tensor | None = None
        for entry in self._tasks:
            task = entry.task
            label = labels[task.name]
            # Data without labels can be predicted; what has no label by its nature has a loss without one.
            if task.loss is not None:
                if label is not None or task.label is None:
                    labelled = rows.get(task.name) if rows else None
                    if entry.checks and labelled is None and label is not None:
                        loss = task.checked_loss(flow, batch[label], label)
                    else:
                        loss = task.task_loss(flow, None if label is None else batch[label], labelled)
                    outputs[entry.loss] = value = loss.detach()
                    weighted = loss if task.weight == 1 else loss * task.weight
                    total = weighted if total is None else total + weighted
                    if parts is not None:
                        parts[task.name] = weighted
                elif train:
                    raise task.unlabelled(batch)
            if entry.reads:
                entry.add_readings(flow, outputs)
        if total is None:
            total = torch.zeros((), device=self._device)
        outputs["loss"] = value if total is loss else total.detach()
        return total, outputs

    def _run_flow(self, batch: Batch) -> FlowOutputs:
        if self._autocast is None:
            return self._run_plan(batch)
        with self._autocast:
            return self._run_plan(batch)

    def _set_plan(self, plan: Plan) -> None:
        compiler, modules = self._compiler, self._modules
        self._run_plan: Callable[[Batch], FlowOutputs]
        self._run_plan = partial(plan.run, modules, quick=True) if compiler is None else compiler(plan, modules).run
