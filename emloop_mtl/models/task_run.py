"""How one task is run in a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from ..tasks.task import Task

EVERYTHING = frozenset({"prob", "pred", "action outputs"})


class TaskRun(NamedTuple):
    """A task in a batch: the names of its outputs, and which of them somebody reads."""

    task: Task
    loss: str
    prob: str
    pred: str
    reads: frozenset[str]
    checks: bool
    """Whether its loss checks the labels."""

    @classmethod
    def of(cls, task: Task, outputs: frozenset[str] | None, checks: bool) -> TaskRun:
        """Return how ``task`` is run.

        :param outputs: names of the outputs that somebody reads; None for all
        :param checks: whether its loss checks the labels
        """
        loss, prob, pred = (f"{task.name}/{kind}" for kind in ("loss", "prob", "pred"))
        if outputs is None:
            reads = EVERYTHING if task.action_outputs else EVERYTHING - {"action outputs"}
        else:
            wanted = {"prob": prob in outputs, "pred": pred in outputs}
            wanted["action outputs"] = not outputs.isdisjoint(task.action_output_names)
            reads = frozenset(kind for kind, is_read in wanted.items() if is_read)
        return cls(task, loss, prob, pred, reads, checks)

    def add_readings(self, flow: Mapping[str, Any], outputs: dict[str, Any]) -> None:
        """Add what somebody reads of the task to the outputs of a batch.

        :param flow: all action outputs of the task by name
        """
        if not torch.is_grad_enabled():
            self._read(flow, outputs)
            return
        with torch.no_grad():
            self._read(flow, outputs)

    def _read(self, flow: Mapping[str, Any], outputs: dict[str, Any]) -> None:
        task, reads = self.task, self.reads
        if "prob" in reads:
            outputs[self.prob] = prob = task.probabilities(flow)
            if "pred" in reads:
                outputs[self.pred] = task.predictions(prob)
        elif "pred" in reads:
            outputs[self.pred] = task.predict(flow)
        if "action outputs" in reads:
            outputs.update(task.select_outputs(flow))
