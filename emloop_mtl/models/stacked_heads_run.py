"""How batches are run some of whose heads are one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from ..data.batch import Batch
from ..tasks.action_input import INPUT
from ..tasks.flow_outputs import FlowOutputs
from .component import BACKBONE
from .head_task import HeadTask
from .heads_network import HeadsNetwork
from .heads_run import HeadsRun
from .label_join import LabelJoin
from .plan_compiler import PlanCompiler
from .stack_run import StackRun
from .stacked_batch_run import output_names
from .task_run import TaskRun


class StackedHeadsRun(HeadsRun):
    """Runs batches like ``HeadsRun``, with the same outputs in the same order, but the heads of each stack as one.

    Where a batch has a source that takes the place of what the backbone returns, they are run one by one.

    :param network: the modules
    :param heads: the heads of the batches, in their order
    :param joins: the stacks, with their labels
    :param labels: head -> its label source
    :param keep_apart: takes heads apart for good, with the reason
    :param may_lack_losses: as of ``HeadsRun``, like all that follow
    """

    def __init__(
        self,
        network: HeadsNetwork,
        heads: Sequence[HeadTask],
        joins: Sequence[LabelJoin],
        labels: Mapping[str, str | None],
        keep_apart: Callable[[Collection[str], str], None],
        may_lack_losses: bool,
        learning: dict[str, bool | None],
        called: set[str],
        unchecked: Collection[str],
        outputs: frozenset[str] | None,
        device: torch.device,
        precision: torch.dtype | None,
        compiler: PlanCompiler | None = None,
    ) -> None:
        how = may_lack_losses, learning, called, unchecked, outputs, device, precision, compiler
        super().__init__(network, heads, *how)
        self._keep_apart = keep_apart
        self._apart = HeadsRun(network, heads, *how)
        runs = {entry.task.name: entry for entry in self._tasks}
        self._stacks = [StackRun(join, [runs[name] for name in join.stack.names]) for join in joins]
        self._trains = all(stack.has_labels for stack in self._stacks)
        self._stacked = {name: output_names(runs[name], labels[name]) for join in joins for name in join.stack.names}
        """The names of the outputs of each head that is run here with others."""
        self._named = [head.name for head in heads]
        self._takes = [head.flow[-1].inputs[0] for head in heads if head.name in self._stacked]
        self._reading: object | None = None
        """What the stacked heads get in a batch of the last kind that was looked at."""
        self._reading_fits = False
        self._alone = network.plan_of([head for head in heads if head.name in self._stacked])
        self._set_plan(network.plan_of([head for head in heads if head.name not in self._stacked]))

    def forward(
        self, batch: Batch, train: bool, parts: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Any]]:
        """Return the model's loss, which gradients flow from, and the outputs by name, which have none.

        :param batch: a prepared batch
        :param train: whether it is trained on, so that every head with a loss needs its labels
        :param parts: gets the part of each head in the loss, with its graph; None where nobody looks at them
        """
        if train and not self._trains:
            return self._apart.forward(batch, train, parts)
        try:
            return self._run(batch, train, parts)
        except Exception:
            # What is wrong is said of one head, with the text that there is for it.
            self._apart.forward(batch, train)
            raise

    def _run(self, batch: Batch, train: bool, parts: dict[str, Tensor] | None) -> tuple[Tensor, dict[str, Any]]:
        flow = self._run_flow(batch)
        encoded = flow[BACKBONE]
        with self._autocast or nullcontext():
            if not self._fits(batch, encoded):
                if train:  # a gradient reaches heads that are trained as one only where they are run as one
                    self._keep_apart(self._stacked, "a batch holds something else for them than the backbone returns")
                alone = self._alone.decode(self._modules, batch, encoded)
                every = [(alone if name in self._stacked else flow)[name] for name in self._named]
                slots = {name: slot for slot, name in enumerate([INPUT, BACKBONE, *self._named])}
                apart = FlowOutputs(slots, [batch, encoded, *every])
                return self._apart._add_tasks(apart, batch, train, None, {}, parts)
            values = [stack.run(flow, batch) for stack in self._stacks]
        outputs: dict[str, Any] = {}
        total: Tensor | None = None
        for stack, returned in zip(self._stacks, values, strict=True):
            loss = stack.add(returned, flow, batch, outputs, parts)
            if loss is not None:
                total = loss if total is None else total + loss
        return self._add_tasks(flow, batch, train, total, outputs, parts)

    def _add_head(
        self,
        head: HeadTask,
        entry: TaskRun,
        flow: FlowOutputs,
        batch: Batch,
        train: bool,
        total: Tensor | None,
        outputs: dict[str, Any],
        parts: dict[str, Tensor] | None,
    ) -> Tensor | None:
        names = self._stacked.get(head.name)
        if names is None:
            return super()._add_head(head, entry, flow, batch, train, total, outputs, parts)
        if train:
            self._learning[head.name] = True
        for name in names:  # which puts them behind those of the heads before
            outputs[name] = outputs.pop(name)
        return total

    def _fits(self, batch: Batch, encoded: Any) -> bool:
        """Whether each head gets what it was stacked for, and nothing else."""
        reading = self._alone.reading(tuple(batch), encoded)
        if reading is not self._reading:
            is_mapping = isinstance(encoded, Mapping)
            self._reading, self._reading_fits = reading, True
            for takes, given in zip(self._takes, reading, strict=True):
                wanted = str(takes.path[0]) if takes.path else BACKBONE
                fits = is_mapping == bool(takes.path) and [(each.name, each.is_encoded) for each in given] == [
                    (wanted, True)
                ]
                self._reading_fits &= fits
        return self._reading_fits
