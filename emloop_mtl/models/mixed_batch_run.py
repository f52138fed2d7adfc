"""How batches are run that are mixed of several loaders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..data.batch import Batch
from ..errors import ConfigError
from ..tasks.action_input import INPUT
from ..tasks.plan import Plan
from .batch_run import BatchRun
from .mixed_outputs import MixedOutputs, move_rows
from .mixed_rows import MixedRows
from .picked_values import PickedValues
from .row_set import RowSet
from .task_run import TaskRun


class MixedBatchRun(BatchRun):
    """Runs each action once, on the rows of all tasks whose flows it is in, and gives each task its own rows.

    So a trunk that all tasks share runs on the whole batch, and the head of one task on the rows of that task: what is
    filled up where a loader lacks a source gets into no module. A loss is what it would be of a batch of the task's
    rows alone. Probabilities, predictions and action outputs have as many rows as the batch, in others zeros.
    """

    def forward(
        self, batch: Batch, train: bool, parts: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Any]]:
        """Return the model's loss, which gradients flow from, and the outputs by name, which have none.

        :param batch: a prepared batch
        :param train: whether it is trained on, so that every task with a loss needs its labels
        :param parts: gets the part of each task in the loss, with its graph; None where nobody looks at them
        :raise DataError: if it lacks labels that it needs, or a source in some of the rows where it is read
        """
        whose = batch.stacked.get(MixedRows)
        if whose is None:  # as where tasks were taken from the batch
            whose = MixedRows(batch)
        size = whose.size
        if self._autocast is None:
            flow = self._run_actions(batch, whose)
        else:
            with self._autocast:
                flow = self._run_actions(batch, whose)
        total: Tensor | None = None
        outputs: dict[str, Any] = {}
        for entry in self._tasks:
            task, rows = entry.task, whose.of((entry.task.name,))
            label = batch.tasks[task.name]
            if task.loss is not None:
                if label is not None or task.label is None:
                    loss = self._loss_of(entry, flow, batch, rows, size)
                    outputs[entry.loss] = loss.detach()
                    weighted = loss if task.weight == 1 else loss * task.weight
                    total = weighted if total is None else total + weighted
                    if parts is not None:
                        parts[task.name] = weighted
                elif train:
                    raise task.unlabelled(batch)
            if entry.reads:
                read: dict[str, Any] = {}
                entry.add_readings(flow.of(rows), read)
                outputs.update({name: move_rows(value, rows, None, size) for name, value in read.items()})
        if total is None:
            total = torch.zeros((), device=self._device)
        outputs["loss"] = total.detach()
        return total, outputs

    def _run_actions(self, batch: Batch, whose: MixedRows) -> MixedOutputs:
        rows = {name: whose.of(users) for name, users in self._users.items()}
        plan = self._plan
        slots = {name: slot for name, slot in plan.slots.items() if name in rows}
        made_for = {slot: rows[name] for name, slot in slots.items()}

        def pick(action: str, values: Sequence[Any]) -> PickedValues:
            return PickedValues(values, made_for, rows[action], plan.sources, batch, action)

        values = plan.run_picked(self._modules, batch, pick)
        found = {name: (rows[name], values[slot]) for name, slot in slots.items()}
        return MixedOutputs({INPUT: (None, batch), **found}, None, whose.size)

    def _loss_of(self, entry: TaskRun, flow: MixedOutputs, batch: Batch, rows: RowSet | None, size: int) -> Tensor:
        task = entry.task
        label = batch.tasks[task.name]
        values = None if label is None else batch[label]
        labelled = batch.rows.get(task.name)
        if rows is None or task.tokens is not None:
            return task.task_loss(flow, values, labelled)
        if labelled is None or labelled.shape[0] == rows.size:
            return task.task_loss(flow.of(rows), rows.pick_source(values, size))
        return task.task_loss(flow, values, labelled)

    def _set_plan(self, plan: Plan) -> None:
        if self._compiler is not None:
            text = "flows are not compiled for batches mixed of several loaders, whose tasks have other rows each time"
            raise ConfigError(f"compile: {text}; set compile: false, or another scheduler", ("model", "compile"))
        self._plan = plan
        self._users = {name: plan.users(name) for name in plan.action_names}
