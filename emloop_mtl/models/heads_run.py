"""How batches of some heads are run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..data.batch import Batch
from ..errors import ConfigError
from ..tasks.flow_outputs import FlowOutputs
from ..tasks.nested import map_tensors
from ..tasks.task_network import TaskNetwork
from .batch_run import BatchRun
from .component import BACKBONE
from .head_task import HeadTask
from .plan_compiler import PlanCompiler
from .share_outputs import ShareOutputs
from .task_run import TaskRun


class HeadsRun(BatchRun):
    """Backbone, heads, losses and outputs of batches that go to certain heads.

    :param network: the modules
    :param heads: the heads of the batches, in their order
    :param may_lack_losses: whether a head may have no loss in a batch that is trained on, as nobody has named it
    :param learning: gets, by the names of heads that are trained, whether they have had a loss with a gradient, None
        where they have had no loss
    :param called: gets the names of the heads that are run
    :param unchecked: the names of heads whose labels their losses check
    :param outputs: names of the outputs that somebody reads; None for all
    :param device: where the loss is made if no head has one
    :param precision: what autocast computes in; None for no autocast
    :param compiler: compiles backbone and heads; None where nothing is compiled
    """

    def __init__(
        self,
        network: TaskNetwork,
        heads: Sequence[HeadTask],
        may_lack_losses: bool,
        learning: dict[str, bool | None],
        called: set[str],
        unchecked: Collection[str],
        outputs: frozenset[str] | None,
        device: torch.device,
        precision: torch.dtype | None,
        compiler: PlanCompiler | None = None,
    ) -> None:
        super().__init__(network, heads, unchecked, outputs, device, precision, compiler)
        self._heads = list(zip(heads, self._tasks, strict=True))
        self._returns_all = outputs is None
        self._may_lack_losses = may_lack_losses
        self._learning = learning
        self._called = called
        self._names = [head.name for head in heads]

    def _add_tasks(
        self,
        flow: FlowOutputs,
        batch: Batch,
        train: bool,
        total: Tensor | None,
        outputs: dict[str, Any],
        parts: dict[str, Tensor] | None = None,
    ) -> tuple[Tensor, dict[str, Any]]:
        self._called.update(self._names)
        for head, entry in self._heads:
            total = self._add_head(head, entry, flow, batch, train, total, outputs, parts)
        if self._returns_all and self._heads and isinstance(flow[BACKBONE], Mapping):
            outputs.update({f"{BACKBONE}/{key}": map_tensors(v, Tensor.detach) for key, v in flow[BACKBONE].items()})
        if total is None:
            if train and self._heads:  # else all of its heads were removed, which has been told
                text = "no head gives a loss for a batch that is trained on; see that it holds the heads' labels"
                raise ConfigError(f"{text}, under the names of their arguments", ("model", "heads"))
            total = torch.zeros((), device=self._device)
        outputs["loss"] = total.detach()
        return total, outputs

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
        """Add what a head says to the outputs, and return the sum of the weighted losses up to it."""
        loss = self._loss_of(head, entry, flow, batch, train)
        if train and not self._learning.get(head.name):
            self._learning[head.name] = None if loss is None else loss.requires_grad
        if loss is not None:
            outputs[entry.loss] = loss.detach()
            weighted = loss if head.weight == 1 else loss * head.weight
            total = weighted if total is None else total + weighted
            if parts is not None:
                parts[head.name] = weighted
        if self._returns_all:
            outputs.update(head.others(flow))
        if entry.reads and (not self._returns_all or head.can_be_asked(flow)):
            entry.add_readings(flow, outputs)
        return total

    def _loss_of(self, head: HeadTask, entry: TaskRun, flow: FlowOutputs, batch: Batch, train: bool) -> Tensor | None:
        """Return the loss of a head, None if it has none in this batch."""
        if head.computes_loss:
            loss = head.own_loss(flow)
            if loss is None and train and not self._may_lack_losses:
                text = f"head {head.name!r} returns no 'loss' for a batch that is trained on, only"
                told = ", ".join(map(repr, flow[head.name])) or "nothing"
                hint = (
                    f"see that the batch holds its labels under the name of its argument, or set heads.{head.name}.loss"
                )
                raise ConfigError(f"{text} {told}; {hint}", head.path)
            # A mean over no rows is nan, and so would be the total.
            return loss.nan_to_num(0.0) if loss is not None and not _has_rows(head, batch) else loss
        label = batch.tasks[head.name]
        if label is None:
            if train and not self._may_lack_losses:
                raise head.unlabelled(batch)
            return None
        labelled = batch.rows.get(head.name)
        if entry.checks and labelled is None:
            return head.checked_loss(flow, batch[label], label)
        if labelled is not None and isinstance(flow, ShareOutputs) and self._is_of_share(head, batch, labelled):
            values = batch[label]
            own = {head.name: flow.own(head.name)}
            return head.task_loss(own, values.index_select(0, labelled.to(values.device, non_blocking=True)))
        return head.task_loss(flow, batch[label], labelled)

    @staticmethod
    def _is_of_share(head: HeadTask, batch: Batch, labelled: Tensor) -> bool:
        """Whether the loss is that of the output of a head alone, for all rows that the head was run on."""
        loss, share = head.loss, batch.shares.get(head.name)
        if share is None or loss is None or loss.takes_all_outputs or head.tokens is not None:
            return False
        is_whole = 0 < labelled.shape[0] == share.rows.shape[0]
        return is_whole and isinstance(batch[str(batch.tasks[head.name])], Tensor)


def _has_rows(head: HeadTask, batch: Batch) -> bool:
    """Whether there is a row that a head can learn of, as far as the host knows."""
    labelled, share = batch.rows.get(head.name), batch.shares.get(head.name)
    if labelled is not None:
        return labelled.shape[0] > 0
    return batch.count() != 0 if share is None else share.rows.shape[0] > 0
