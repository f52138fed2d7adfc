"""How a model makes batches ready to be run."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import torch

from ..data.batch import Batch
from ..data.per_kind import MOST_KINDS
from ..data.share import Share
from ..errors import DataError, nearest
from ..tasks.padded_labels import refuse_padding, takes_padding
from ..tasks.task_network import TaskNetwork
from .batch_kind import BatchKind
from .batch_tasks import BatchTasks
from .checked_columns import CheckedColumns
from .device_copy import as_tensor, to_device
from .label_join import LabelJoin
from .mixed_rows import MixedRows

if TYPE_CHECKING:
    from .task_stacks import TaskStacks

CHANGING = threading.RLock()
"""Held while tasks change, and while a thread that reads ahead finds out what batches of a new kind need."""


class BatchPreparation:
    """Finds the tasks and labelled rows of batches, checks their labels, and brings them to the device.

    What batches with the same sources and tasks need is found out once.

    :param network: the modules and tasks
    :param batch_tasks: tells which tasks a batch is for
    :param device: where batches are run
    :param leaves_checks: whether labels that a loss looks at anyway, on the host, are left to it
    """

    def __init__(
        self, network: TaskNetwork, batch_tasks: BatchTasks, device: torch.device, leaves_checks: bool
    ) -> None:
        self._network = network
        self._batch_tasks = batch_tasks
        self._device = device
        self._leaves_checks = leaves_checks and device.type == "cpu"
        self._checked_columns = CheckedColumns()
        self._kinds: dict[tuple[tuple[str, ...], tuple[tuple[str, str | None], ...] | None, bool], BatchKind] = {}
        self.stacks: TaskStacks | None = None
        """Which tasks are run as one, if any may be."""

    def prepare(self, batch: Batch) -> Batch:
        """Make a batch ready.

        :raise DataError: for a missing label source, or a label that can be neither used nor left out
        """
        batch.count()
        if batch.shares:
            self._find_labelled(batch)
        kind = self.kind_of(batch)
        if batch.tasks != kind.tasks:
            batch.tasks = dict(kind.tasks)
        labels, moved = kind.labels, kind.moved
        for join in kind.joins:
            if not join.prepare(batch, self._device):
                labels += join.labels
                moved += tuple(label for _, label in join.labels)
        rows = batch.rows
        for pair in labels:
            if batch.origin is not None and self._checked_columns.hold(batch, pair):
                continue
            task, label = pair
            if task.name not in rows:
                batch[label] = values = as_tensor(batch[label])
                labelled = task.check_labels(values, label)
                if labelled is not None:
                    rows[task.name] = labelled
        for task, label in kind.padded_labels:
            refuse_padding(task, label, batch)
        for task, label in kind.token_labels:
            if task.name not in rows:
                batch[label] = as_tensor(batch[label])
                rows[task.name] = task.labelled_tokens(batch, label)
        device = self._device
        for name in moved:
            batch[name] = to_device(batch[name], device)
        for name in rows:
            rows[name] = to_device(rows[name], device)
        if batch.shares:
            for name, (_, host) in batch.shares.items():
                batch.shares[name] = Share(to_device(host, device), host)
        if kind.is_mixed:
            batch.stacked[MixedRows] = MixedRows(batch)
        batch.kind = kind
        batch.masks = kind.masks
        batch.origin = None
        batch.prepared = True
        return batch

    def kind_of(self, batch: Batch) -> BatchKind:
        """Return what batches with these sources and tasks need."""
        named = self._batch_tasks.named(batch)
        key = tuple(batch), None if named is None else tuple(batch.tasks.items())
        is_mixed = batch.mix is not None or bool(batch.shares)
        kind = self._kinds.get((*key, is_mixed))
        if kind is None or not kind.is_of(self._network):
            with CHANGING:  # of a change in another thread, all or nothing is to be seen
                kind = self._kinds[*key, is_mixed] = self._find_kind(batch, is_mixed)
        return kind

    def is_outdated(self, batch: Batch, kind: BatchKind) -> bool:
        """Whether a batch that was read ahead has to be prepared again, because its tasks have changed meanwhile.

        :param batch: the batch; what was found of tasks that were replaced is taken from it
        :param kind: the kind that it was prepared as
        """
        replaced = [task.name for task in kind.known if self._network.tasks.get(task.name) is not task]
        left, batch.kind = batch.tasks, None
        if kind.tasks == left:  # else somebody has taken tasks from it, which they stay
            batch.tasks = dict(kind.named)
        if not replaced and self._batch_tasks.carried(batch) == left:
            batch.tasks, batch.kind = left, kind
            return False
        for name in replaced:
            batch.rows.pop(name, None)
        return True

    def catch_up(self, batch: Batch, kind: BatchKind) -> None:
        """Make a batch that was prepared as one of another kind one of this kind, as where tasks run as one since then.

        :raise DataError: for a label that was left to a loss that would no longer check it, and cannot be used
        """
        left = frozenset() if batch.kind is None else batch.kind.unchecked - kind.unchecked
        for name, label in kind.tasks.items():
            if name in left and label is not None:
                labelled = self._network.task(name).check_labels(batch[label], label)
                if labelled is not None:
                    batch.rows[name] = labelled
        batch.kind = kind

    def _find_labelled(self, batch: Batch) -> None:
        """Find, and check, the labels among the rows of each task that is not about all rows of a batch.

        :raise DataError: for labels that are missing as a whole, or can be neither used nor left out
        """
        tasks = self._batch_tasks.named(batch) or {}  # without those that were removed
        for name, share in batch.shares.items():
            label, rows = tasks.get(name), batch.rows.get(name)
            # Where the rows are those of the share itself, nobody has looked at the labels.
            if label is None or not (rows is None or rows is share.rows):
                continue
            if label not in batch:
                text = f"task {name!r}: the batch lacks the label source {label!r}"
                raise DataError(f"{text}{nearest(label, batch)}")
            task = self._network.task(name)
            batch[label] = values = as_tensor(batch[label])
            if task.tokens is not None:
                batch.rows[name] = task.labelled_tokens(batch, label, share.host)
                continue
            about = share.host
            is_tensor = isinstance(values, torch.Tensor)
            own = values[about.to(values.device)] if is_tensor else [values[row] for row in about]
            kept = task.check_labels(own, label)
            batch.rows[name] = about.clone() if kept is None else about[kept.to(about.device)]

    def _find_kind(self, batch: Batch, is_mixed: bool) -> BatchKind:
        version = self._network.version  # asked for first: what is found after a change belongs to no version
        named = self._batch_tasks.named(batch)
        tasks = self._batch_tasks.held_by(batch) if named is None else named
        labels = [(self._network.task(name), label) for name, label in tasks.items() if label is not None]
        for task, label in labels:
            if label not in batch:
                text = f"task {task.name!r}: the batch lacks the label source {label!r}"
                raise DataError(f"{text}{nearest(label, batch)}")
        padded = [pair for pair in labels if takes_padding(*pair, batch)]
        plan = self._network.plan(tuple(tasks))
        sources = list(batch) if plan.takes_all_sources else [name for name in plan.sources if name in batch]
        joins = [] if self.stacks is None or is_mixed else LabelJoin.find(self.stacks.of(tasks), tasks)
        joined = {pair for join in joins for pair in join.labels}
        labels = [pair for pair in labels if pair not in joined]
        moved = dict.fromkeys([*sources, *(label for _, label in labels)])
        on_host = not any(self._network.task(name).module_device for name in tasks)
        # A loss of other outputs, or of some rows, leaves it to the task.
        checking = self._leaves_checks and on_host and not is_mixed
        unchecked = {task.name for task, _ in labels if checking and task.loss_checks_labels}
        labels = [pair for pair in labels if pair[0].name not in unchecked]
        tokens = {name: task for name in tasks if (task := self._network.task(name)).tokens is not None}
        self._batch_tasks.check_tokens([task.name for task in tokens.values()], batch, ("model",))
        kind = BatchKind(self._network, version, tasks, labels, unchecked, joins, tuple(moved), tokens, padded)
        kind.known = tuple(self._network.task(name) for name in tasks)
        kind.named, kind.is_inferred = dict(batch.tasks), named is None
        kind.is_mixed = is_mixed
        if len(self._kinds) >= MOST_KINDS:
            self._kinds.clear()
        return kind
