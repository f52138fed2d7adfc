"""How batches are run whose rows are of several tasks, each row of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from ..data.batch import Batch
from ..tasks.metrics.accuracy import Accuracy
from ..tasks.select_rows import select_rows
from ..tasks.target import Target
from ..tasks.task import Task
from .activations import Activations
from .runs_batches import RunsBatches

PREDS, ACC, LOSS_CLS, ACTIVATIONS = "preds", "acc", "loss_cls", "activations"

OUTPUTS = (PREDS, ACC, LOSS_CLS, ACTIVATIONS)
"""What is said of a batch as a whole, beside its loss."""


class JointRun:
    """The means over the tasks that are present in a batch, and what all of them say together.

    A task is present if it has a labelled row. How many are is known on the host, so that nothing is waited for.

    :param inner: runs the tasks; gives the sum of their weighted losses
    :param tasks: the tasks of the batches, in their order
    :param outputs: names of the outputs that somebody reads; None for all
    :param activations: takes up the outputs of layers
    """

    def __init__(
        self, inner: RunsBatches, tasks: Sequence[Task], outputs: frozenset[str] | None, activations: Activations
    ) -> None:
        self._inner = inner
        self._reads = frozenset(OUTPUTS) if outputs is None else outputs.intersection(OUTPUTS)
        self._names = [task.name for task in tasks]
        self._measures = {task.name: _accuracy_of(task) for task in tasks if _has_accuracy(task)}
        self._activations = activations

    @staticmethod
    def needed(tasks: Sequence[Task], outputs: frozenset[str] | None) -> frozenset[str] | None:
        """Return the names of the outputs that the tasks have to give where ``outputs`` are read; None for all."""
        if outputs is None or not outputs.intersection((PREDS, ACC)):
            return outputs
        return outputs.union(f"{task.name}/pred" for task in tasks)

    def forward(
        self, batch: Batch, train: bool, parts: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Any]]:
        """Return the mean of the losses of the tasks that are present, and the outputs by name."""
        if ACTIVATIONS in self._reads:
            with self._activations.taken() as found:
                total, outputs = self._inner.forward(batch, train, parts)
            outputs[ACTIVATIONS] = found
        else:
            total, outputs = self._inner.forward(batch, train, parts)
        present = self._present(batch)
        if len(present) > 1:
            total = total / len(present)
            if parts is not None:
                parts.update({name: part / len(present) for name, part in parts.items()})
            outputs["loss"] = total.detach()
        if self._reads:
            with torch.no_grad():
                self._add_outputs(batch, outputs, present)
        return total, outputs

    def _present(self, batch: Batch) -> list[str]:
        tasks, rows = batch.tasks, batch.rows
        return [
            name
            for name in self._names
            if tasks[name] is not None and (name not in rows or rows[name].shape[0])  # its length asks no device
        ]

    def _add_outputs(self, batch: Batch, outputs: dict[str, Any], present: Sequence[str]) -> None:
        if LOSS_CLS in self._reads:
            outputs[LOSS_CLS] = _mean([outputs[f"{name}/loss"] for name in present], outputs["loss"])
        if ACC in self._reads:
            scored = [self._accuracy(name, batch, outputs) for name in present if name in self._measures]
            outputs[ACC] = _mean(scored, outputs["loss"])
        if PREDS in self._reads:
            found = _assembled({name: outputs[f"{name}/pred"] for name in self._names}, batch)
            if found is not None:
                outputs[PREDS] = found

    def _accuracy(self, name: str, batch: Batch, outputs: Mapping[str, Any]) -> Tensor:
        """Return the share of a task's labelled rows that are predicted right."""
        label, pred = batch[str(batch.tasks[name])], outputs[f"{name}/pred"]
        if name in batch.rows:
            rows, size = batch.rows[name], label.shape[0]
            label, pred = select_rows(label, rows, size), select_rows(pred, rows, size)
        counted, right = self._measures[name].sums(label, None, pred).unbind()
        return (right / counted).float()


def _mean(values: Sequence[Tensor], like: Tensor) -> Tensor:
    """Return the mean of some 0-d tensors; nan, where ``like`` is, if there are none."""
    if not values:
        return like.new_full((), torch.nan)
    total = reduce(torch.add, values)
    return total if len(values) == 1 else total / len(values)


def _assembled(preds: Mapping[str, Tensor], batch: Batch) -> Tensor | None:
    """Return what is predicted of each row by its task, None where there are none or they do not fit together."""
    if len({pred.shape[1:] for pred in preds.values()}) != 1:
        return None
    kind = reduce(torch.promote_types, [pred.dtype for pred in preds.values()])
    found: Tensor | None = None
    for name, pred in preds.items():
        if name not in batch.shares:
            return pred
        rows = batch.shares[name].rows
        found = pred.new_zeros(pred.shape, dtype=kind) if found is None else found
        found.index_copy_(0, rows, pred.index_select(0, rows).to(kind))
    return found


def _has_accuracy(task: Task) -> bool:
    target = Target.OTHER if task.loss is None else task.loss.target
    return target in (Target.CLASS, Target.BINARY) and not task.output.predicts_values


def _accuracy_of(task: Task) -> Accuracy:
    metric = Accuracy()
    metric.num_classes = task.num_classes
    metric.ignored_label = None if task.loss is None else task.loss.ignored_label
    metric.has_label_sets = task.output.predicts_label_sets
    return metric
