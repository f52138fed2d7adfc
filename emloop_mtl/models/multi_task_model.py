"""A network of tasks with its optimizer."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import torch
from torch import nn

from ..constants import TRAIN_STREAM
from ..data.batch import Batch
from ..data.column_dataset import ColumnDataset
from ..data.per_kind import MOST_KINDS
from ..data.share import Share
from ..data.subsets import rows_of, whole
from ..errors import ConfigError, DataError, KeyPath, nearest
from ..optim.learning_rate import LearningRate
from ..optim.optimizers import OptimizerSettings, read_settings
from ..optim.same_conditions import SameConditions
from ..optim.update import Update
from ..optim.update_settings import check_names
from ..tasks.flow import check_flow
from ..tasks.padded_labels import check_lengths, refuse_padding, takes_padding
from ..tasks.task import Task
from ..tasks.task_network import TaskNetwork
from ..types import State
from ..utils.observers import Observers
from .abstract_model import AbstractModel
from .batch_kind import BatchKind
from .batch_run import BatchRun
from .checked_columns import CheckedColumns
from .device_copy import as_tensor, to_device
from .evaluation import predict, score
from .find_device import find_device
from .freezing import Freezing
from .frozen_part import FrozenPart
from .label_join import LabelJoin
from .mixed_batch_run import MixedBatchRun
from .mixed_rows import MixedRows
from .plan_compiler import PlanCompiler
from .removed_tasks import RemovedTasks
from .runs_batches import RunsBatches
from .stacked_batch_run import StackedBatchRun
from .task_stacks import TaskStacks
from .watches_losses import WatchesLosses
from .weights_file import load_weights, save_weights

if TYPE_CHECKING:
    from ..data.stream_wrapper import StreamWrapper
    from ..data.task_loader import TaskLoader
    from ..tasks.global_metrics import GlobalMetric
    from .task_prediction import TaskPrediction

_LOGGER = logging.getLogger(__name__)

PRECISIONS: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

_CHANGING = threading.RLock()
"""Held while tasks change, and while a thread that reads ahead finds out what batches of a new kind need."""


class MultiTaskModel(AbstractModel):
    """Tasks that share modules, trained together.

    :param tasks: the tasks, in any iterable or by name, or the only one
    :param modules: modules that the tasks' flows may name, by name
    :param name: what runs of this model are called
    :param optimizer: ``class`` (a short name such as ``adamw`` or ``bert_adam``, or any optimizer class), its
        arguments, and ``parameters``, a function that gets ``network`` and returns parameter groups; or the name,
        the class or a ``functools.partial`` of it alone
    :param update: ``clip_norm``, ``accumulate``, ``accumulate_reduction``, ``on_nan``; see ``Update``
    :param device: ``auto`` (CUDA where there is one, else the CPU) or any torch device
    :param precision: ``fp32``, or ``bf16`` or ``fp16`` through autocast; weights stay in float32
    :param output_dir: where ``save`` writes, and where batches are kept that ``on_nan`` has found
    :param stack_tasks: whether tasks whose remaining flow is the same are run as one, which changes nothing but speed
        and the last digits of numbers
    :param compile: whether flows are compiled, each set of tasks by itself; or arguments of ``torch.compile``
    :raise ConfigError: for tasks that cannot be run together, and for unknown or wrong settings
    """

    config_sections: ClassVar[Mapping[str, str]] = {"optimizer": "optimizer"}
    """Arguments that the config checks as settings, and hands over unbuilt."""

    config_items: ClassVar[Mapping[str, type]] = {"tasks": Task}
    """Arguments that the config gives as mappings of names to the arguments of an object of this class."""

    section: ClassVar[str] = "tasks"
    """The argument that declares the tasks."""

    weights: ClassVar[str] = "tasks"
    """The argument that has the weights of their losses."""

    def __init__(
        self,
        tasks: Task | Iterable[Task] | Mapping[str, Task],
        modules: Mapping[str, nn.Module] | None = None,
        name: str = "model",
        optimizer: OptimizerSettings | None = None,
        update: Mapping[str, Any] | None = None,
        device: str | torch.device = "auto",
        precision: str = "fp32",
        output_dir: str | Path | None = None,
        stack_tasks: bool = True,
        compile: bool | Mapping[str, Any] = False,
    ) -> None:
        if precision not in PRECISIONS:
            raise ConfigError(f"unknown precision {precision!r}{nearest(precision, PRECISIONS)}", ("precision",))
        self._compiler = PlanCompiler(compile) if compile is not False else None
        listed = _listed(tasks)
        self.name = name
        self.device = find_device(device)
        self.precision = precision
        try:
            self.network = self._make_network(listed, modules or {})
        except ConfigError as error:
            raise (error if error.path[:1] == ("modules",) else error.below((self.section,))) from error.__cause__
        self.network.place(self.device)
        self._output_dir = output_dir
        try:
            self._optimizer_settings = read_settings(optimizer)
        except ConfigError as error:
            raise error.below(("optimizer",)) from error.__cause__
        self._update_settings = dict(update or {})
        self._update: Update | None = None
        self._frozen_modules: list[nn.Module] = []
        self._freezing = Freezing(self.network)
        self.loss_watches: Observers[WatchesLosses] = Observers()
        """Who gets the part of each task in the loss of a batch, before the backward pass."""
        self._checked_columns = CheckedColumns()
        self._kinds: dict[tuple[tuple[str, ...], tuple[tuple[str, str | None], ...] | None, bool], BatchKind] = {}
        self._removed: RemovedTasks | None = None
        self._told_left_out = False
        if self._has_trainable():
            self._update = self._make_update()
        self._stack_tasks = stack_tasks
        self._stacks = self._make_stacks()

    # --------------------------------------------------------------------------------------- what it consists of

    @property
    def tasks(self) -> Mapping[str, Task]:
        """The tasks by name."""
        return self.network.tasks

    @property
    def learning_rate(self) -> LearningRate:
        """The learning rate of the training."""
        return self.update.learning_rate

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer."""
        return self.update.optimizer

    @property
    def update(self) -> Update:
        """What turns losses into new weights.

        :raise ConfigError: if no parameter can be trained
        """
        if self._update is None:
            raise ConfigError("the model has no parameter that requires a gradient, so it cannot be trained")
        return self._update

    @property
    def is_compiled(self) -> bool:
        """Whether flows are compiled."""
        return self._compiler is not None

    @property
    def stacked_tasks(self) -> list[tuple[str, ...]]:
        """The names of tasks that are run as one at present; it is found out when a batch is trained on."""
        return [] if self._stacks is None else self._stacks.names

    @property
    def input_names(self) -> Collection[str]:
        """The sources that the flows of all tasks read."""
        return {*self.network.plan(tuple(self.tasks)).sources, *self._token_sources(self.tasks)}

    @property
    def label_names(self) -> Collection[str]:
        """The label sources of all tasks."""
        labels = {task.label for task in self.tasks.values() if task.label is not None}
        return labels if self._removed is None else labels | self._removed.sources

    @property
    def output_names(self) -> Collection[str]:
        """``loss``, and ``<task>/loss``, ``<task>/prob``, ``<task>/pred`` and the action outputs of every task."""
        names = ["loss"]
        for task in self.tasks.values():
            names += [f"{task.name}/loss"] if task.loss is not None else []
            names += [f"{task.name}/prob", f"{task.name}/pred", *task.action_output_names]
        return names

    def tasks_of(self, batch: Mapping[str, Any]) -> dict[str, str | None]:
        """Return the tasks whose labels a batch holds; of one without any label, all tasks, unlabelled.

        :param batch: a batch whose loader names no tasks; its values mean nothing
        :return: task name -> label source
        """
        tasks = list(self.tasks.items())  # at once, since they may be changed while a thread prepares batches
        labelled: dict[str, str | None] = {name: task.label for name, task in tasks if task.label in batch}
        unlabelled: dict[str, str | None] = {name: None for name, task in tasks if task.label is None or not labelled}
        runnable = {
            name: label for name, label in {**labelled, **unlabelled}.items() if self._finds_inputs(name, batch)
        }
        return {name: runnable[name] for name, _ in tasks if name in runnable} or labelled or unlabelled

    def _carried(self, batch: Batch) -> dict[str, str | None]:
        """Return the tasks of a batch, those that are removed left out; of one that names none, those it is for."""
        named = self._named(batch)
        return self.tasks_of(batch) if named is None else named

    def _named(self, batch: Batch) -> dict[str, str | None] | None:
        if self._removed is None:
            return batch.tasks or None
        if batch.tasks:
            return self._removed.left_of(batch)
        # One that was prepared carries no tasks only where all of them were removed.
        return {} if batch.kind is not None and not batch.kind.tasks else None

    def required_sources(self, batch: Batch) -> Collection[str]:
        """Return the sources that the tasks of this batch read, their labels included.

        :raise ConfigError: if the batch carries a task that the model does not know
        """
        tasks = self._carried(batch)
        labels = {label for label in tasks.values() if label is not None}
        return {*self.network.plan(tuple(tasks)).sources, *self._token_sources(tasks), *labels}

    def _token_sources(self, tasks: Iterable[str]) -> set[str]:
        """Return the sources of sequences whose tokens have labels."""
        return {tokens.source for name in tasks if (tokens := self._task(name).tokens) is not None}

    def check_sources(self, batch: Batch) -> None:
        """Check, before a training, that the flows of the batch's tasks find what they read."""
        labels = self._carried(batch)
        try:
            tasks = [self._task(name) for name in labels]
        except ConfigError as error:
            raise error.below((self.section,)) from error.__cause__
        self._check_inputs(tasks, batch)
        for task in tasks:
            if task.label is None and labels[task.name] is None and task.loss and not task.loss.takes_all_outputs:
                text = f"task {task.name!r}: its loss {task.loss.name!r} needs labels; set 'label' to their source"
                raise ConfigError(text, (self.section, task.name))
        self._check_tokens(labels, batch)
        super().check_sources(batch)

    def _check_tokens(self, tasks: Iterable[str], sources: Collection[str], path: KeyPath = ()) -> None:
        for name in tasks:
            tokens = self._task(name).tokens
            if tokens is not None and tokens.source not in sources:
                text = f"task {name!r}: tokens: there is no source {tokens.source!r}{nearest(tokens.source, sources)}"
                raise ConfigError(text, (*path, self.section, name, "tokens"))

    def _finds_inputs(self, name: str, batch: Mapping[str, Any]) -> bool:
        """Whether a batch holds all that the flow of a task reads."""
        return all(source in batch for source in self.network.plan((name,)).sources)

    def _check_inputs(self, tasks: Sequence[Task], batch: Batch) -> None:
        """Check that the flows of tasks find what they read."""
        try:
            check_flow(tasks, self.network.keys(), batch)
        except ConfigError as error:
            raise error.below((self.section,)) from error.__cause__

    def check_tasks(self, batches: Sequence[Batch]) -> None:
        """Check, before a training, that no task names a label that no data has, or is left out because of that."""
        self._check_losses()
        if self._stacks is not None:
            self._stacks.learn(batch for batch in batches if batch.split == TRAIN_STREAM)
        known = {source for batch in batches for source in batch}
        carried = {name for batch in batches for name in self._carried(batch)}
        for name, task in self.tasks.items():
            # Where a carried task names another label than its loader does, one of the two is a mistake.
            if name in carried and self._declares_label(task, batches) and task.label not in known:
                self._refuse_label(task, known)
        for batch in batches:
            if batch.split == TRAIN_STREAM:
                self._check_labelled(batch, known)
        left_out = [task for name, task in self.tasks.items() if name not in carried]
        if all(batch.tasks for batch in batches):  # loaders that name their tasks leave others out
            if left_out and not self._told_left_out:
                self._told_left_out = True
                names = ", ".join(map(repr, (task.name for task in left_out)))
                gone = [task for task in left_out if self._names_label(task) and task.label not in known]
                notes = [f"; no loader holds its label {t.label!r}{nearest(str(t.label), known)}" for t in gone[:1]]
                text = "no loader names the task %s, so it is neither trained nor evaluated%s"
                _LOGGER.warning(text, names, "".join(notes))
            return
        if not left_out:
            return
        task = left_out[0]
        for batch in batches:
            if task.label is None or task.label in batch:
                self.check_sources(Batch(batch, tasks={task.name: task.label}))
        self._refuse_label(task, known)

    def check_loader(self, loader: TaskLoader) -> None:
        """Check that columns hold a label for every token, where they are labels of tokens.

        :raise DataError: naming the row for which they do not
        """
        data = whole(loader.dataset)
        if loader.sources is None or not isinstance(data, ColumnDataset):
            return
        for name, label in (loader.tasks or self.tasks_of(dict.fromkeys(loader.sources))).items():
            labels = None if label is None else data.lengths(label)
            if label is not None and labels is not None and name in self.tasks:
                rows = rows_of(loader.dataset, torch.arange(len(loader.dataset)))
                check_lengths(self._task(name), rows, labels, label, data.lengths)

    def _check_labelled(self, batch: Batch, known: Collection[str]) -> None:
        """Check that a loader that is trained on names labels for tasks that cannot be learnt without.

        :param known: the sources of all loaders
        """
        for name, label in self._carried(batch).items():
            if label is None and name in self.tasks and self._needs_label(self.tasks[name]):
                if not batch.tasks and self.tasks[name].label not in known:
                    self._refuse_label(self.tasks[name], known)
                text = f"loader {batch.data_name!r}: task {name!r}: it cannot be trained on without labels"
                raise ConfigError(f"{text}; name their source instead of None, or another split", (self.section, name))

    def _needs_label(self, task: Task) -> bool:
        """Whether a batch without labels cannot be trained on."""
        return task.loss is not None and task.label is not None

    def _declares_label(self, task: Task, batches: Sequence[Batch]) -> bool:
        """Whether a task says where its labels are, so that the data must have them there."""
        return task.label is not None

    def _names_label(self, task: Task) -> bool:
        """Whether somebody has named the source of a task's labels, which is then a mistake if no data have it."""
        return task.label is not None

    def _refuse_label(self, task: Task, known: Collection[str]) -> NoReturn:
        kind = self.section.removesuffix("s")
        text = f"{kind} {task.name!r}: no loader holds its label {task.label!r}{nearest(str(task.label), known)}"
        raise ConfigError(text, (self.section, task.name, "label"))

    def _check_losses(self, path: KeyPath = ()) -> None:
        if all(task.loss is None for task in self.tasks.values()):
            text = "no task has a loss, so there is nothing to learn; set 'loss' of a task"
            raise ConfigError(text, (*path, self.section))
        if all(task.weight == 0 for task in self.tasks.values() if task.loss is not None):
            text = "all losses are multiplied by 0, so there is nothing to learn; set a weight that is not 0"
            raise ConfigError(text, (*path, self.weights))

    # --------------------------------------------------------------------------------------------- changing tasks

    def add_tasks(self, *tasks: Task) -> None:
        """Add tasks, at any time between two batches; what is new is trained with the next update.

        Modules that are already known keep their weights. The optimizer goes on with what it remembers.

        :raise ConfigError: if one cannot be run with the others, or the optimizer's settings do not fit; then nothing
            is changed
        """
        with _CHANGING:
            self._change_tasks(lambda: self.network.add_tasks(*tasks))
            for task in tasks:
                if self._removed is not None:
                    self._removed.discard(task.name)

    def update_task(self, task: Task) -> None:
        """Put a task in the place of the one of its name, at any time between two batches.

        The modules that it defines replace those of their names, also for other tasks.

        :raise ConfigError: as ``add_tasks`` does, or if there is no task of that name
        """
        with _CHANGING:
            self._change_tasks(lambda: self.network.update_task(task))

    def remove_task(self, name: str) -> None:
        """Remove a task, and the modules that only it uses, at any time between two batches.

        Batches whose loaders name it are run without it from then on.

        :raise ConfigError: as ``add_tasks`` does, or if there is no task of that name, or no other
        """
        label = self._task(name).label
        if len(self.tasks) == 1:
            raise ConfigError(f"task {name!r} cannot be removed: a model needs at least one task")
        sources = {*self.network.plan((name,)).sources, *([] if label is None else [label])}
        with _CHANGING:
            self._change_tasks(lambda: self.network.remove_task(name))
            if self._removed is None:
                self._removed = RemovedTasks()
            self._removed.add(name, sources)

    def _change_tasks(self, change: Callable[[], None]) -> None:
        if self._stacks is not None:
            self._stacks.begin_change()
        before, modules = self.network.keep(), set(self.network.modules())
        try:
            change()
            self.network.place(self.device)
            if self._update is not None:
                self._update.renew(self._optimizer_settings, self.network)
            elif self._has_trainable():
                self._update = self._make_update()
        except BaseException:
            self.network.put_back(before)
            raise
        if self._stacks is None:
            self._stacks = self._make_stacks()
        if not self.network.training:
            new = [module for module in self.network.modules() if module not in modules]
            self._frozen_modules += [module for module in new if not module.training]
            self.network.eval()
        if self._freezing.parts:  # the optimizer has got to know what is new of them
            if self._stacks is not None:
                self._stacks.begin_freezing()
            self._set_frozen(self._freezing.parts)

    # --------------------------------------------------------------------------------------------------- freezing

    def freeze(self, part: FrozenPart) -> bool:
        """Train nothing of a part until ``unfreeze``, at any time between two steps; return whether that changes it.

        What the optimizer remembers of it stays. What an open window has gathered of its gradients is dropped.
        """
        parts = self._freezing.parts
        return self._set_frozen(parts if part in parts else [*parts, part])

    def unfreeze(self, part: FrozenPart) -> bool:
        """Train a part again, but for what is frozen otherwise; return whether that changes anything."""
        return self._set_frozen([other for other in self._freezing.parts if other is not part])

    def _set_frozen(self, parts: Sequence[FrozenPart]) -> bool:
        frozen = self._freezing.plan(parts)
        if frozen is None:
            self._freezing.parts = list(parts)
            return False
        with _CHANGING:
            if self._stacks is not None:
                self._stacks.begin_freezing(is_released=len(parts) < len(self._freezing.parts))
            self.network.forget_plans()
            if self.network.training and (self._freezing.evaluated or frozen.modules):
                self._set_mode(False)  # the next batch sets it anew
            self._freezing.set(parts, frozen)
        return True

    # --------------------------------------------------------------------------------------------------- running

    def prepare(self, batch: Batch) -> Batch:
        """Find the batch's tasks and labelled rows, check its labels, and bring it to the device.

        Labels that a loss looks at anyway, on the host, are checked there.

        :raise DataError: for a missing label source, or a label that can be neither used nor left out
        """
        batch.count()
        if batch.shares:
            self._find_labelled(batch)
        kind = self._kind_of(batch)
        if batch.tasks != kind.tasks:
            batch.tasks = dict(kind.tasks)
        labels, moved = kind.labels, kind.moved
        for join in kind.joins:
            if not join.prepare(batch, self.device):
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
        device = self.device
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

    def run(self, batch: Batch, train: bool, stream: StreamWrapper | None = None) -> dict[str, Any]:
        """Run a batch; when training, add its gradients, and update the weights where a step ends.

        :param batch: the batch; one that was not prepared is prepared as a copy
        :param train: whether to train on it
        :param stream: its stream; ``stream.outputs`` names the outputs that somebody reads
        :return: ``loss`` (weighted total) and ``<task>/loss``, 0-d tensors on the device; ``<task>/prob``,
            ``<task>/pred`` and action outputs if somebody reads them, or if no stream is given
        """
        if not isinstance(batch, Batch) or not batch.prepared:
            batch = self.prepare(batch.copy() if isinstance(batch, Batch) else Batch(batch))
        if self._stacks is not None:
            self._stacks.notice(stream)
        run = self._run_of(batch, train, None if stream is None else stream.outputs)
        if self.network.training is not train:
            self._set_mode(train)
        if not train:
            if not torch.is_grad_enabled():
                return run.forward(batch, train)[1]
            torch.set_grad_enabled(False)  # which takes a third of the time of a context
            try:
                return run.forward(batch, train)[1]
            finally:
                torch.set_grad_enabled(True)
        update = self._update or self.update
        conditions = SameConditions(self.network) if update.repeats else None
        if update.watch is not None:
            update.watch.begin()
        watches = [watch for watch in self.loss_watches if watch.is_due] if self.loss_watches else None
        parts: dict[str, torch.Tensor] | None = {} if watches else None
        loss, outputs = run.forward(batch, train, parts)
        if not loss.requires_grad:
            self._check_losses(("model",))
        if watches and parts:
            for watch in watches:
                watch.take(parts)
        update.backward(loss, lambda: run.forward(batch, train)[0], conditions)
        if update.watch is not None:
            update.look_at(batch, outputs, (stream and stream.name) or "")
        if batch.ends_step:
            update.end_step()
        return outputs

    def _set_mode(self, train: bool) -> None:
        """Switch the network between training and evaluation; modules the user has frozen by ``eval()`` stay so."""
        if train:
            self.network.train()
            for module in (*self._frozen_modules, *self._freezing.evaluated):
                module.eval()
        else:
            # What is in evaluation because it is frozen tells nothing of what the user wants of it.
            ours = {id(module) for module in self._freezing.evaluated}.difference(map(id, self._frozen_modules))
            evaluated = [module for module in self.network.modules() if not module.training]
            self._frozen_modules = [module for module in evaluated if id(module) not in ours]
            self.network.eval()

    # ------------------------------------------------------------------------------------------ tasks of a batch

    def _task(self, name: str) -> Task:
        if name not in self.tasks:
            raise ConfigError(f"the model has no task {name!r}{nearest(name, self.tasks)}")
        return self.tasks[name]

    def _run_of(self, batch: Batch, train: bool, outputs: frozenset[str] | None) -> RunsBatches:
        kind: BatchKind | None = batch.kind
        # Tasks may have been taken from a batch since it was prepared.
        if kind is None or not kind.is_of(self.network) or kind.tasks != batch.tasks:
            if kind is not None and not kind.is_of(self.network):
                self._prepare_again(batch, kind)
            kind = self._kind_of(batch)
        if train and not kind.is_settled:
            if self._stacks is not None:
                self._settle_stacks(batch)
                kind = kind if kind.is_of(self.network) else self._kind_of(batch)
            kind.is_settled = True
        if kind is not batch.kind:
            self._catch_up(batch, kind)
        run = kind.runs.get(outputs)
        if run is None:
            tasks = [self._task(name) for name in batch.tasks]
            precision = None if self.precision == "fp32" else PRECISIONS[self.precision]
            how = kind.unchecked, outputs, self.device, precision, self._compiler
            run = kind.runs[outputs] = self._make_run(kind, tasks, *how)
        return run

    def _make_run(self, kind: BatchKind, tasks: Sequence[Task], *how: Any) -> RunsBatches:
        if kind.is_mixed:
            return MixedBatchRun(self.network, tasks, *how)
        if kind.joins:
            return StackedBatchRun(self.network, tasks, kind.tasks, kind.joins, *how)
        return BatchRun(self.network, tasks, *how)

    def _settle_stacks(self, batch: Batch) -> None:
        """Put tasks together and take them apart, as it is to be before a batch of its kind is trained on."""
        if self._stacks is not None:
            if batch.shares:
                self._stacks.keep_apart(batch.tasks, "batches are about other rows for each of them")
            elif batch.mix is not None:
                self._stacks.keep_apart(batch.tasks, "batches mix rows of several loaders")
            self._stacks.settle(batch.tasks)

    def _find_labelled(self, batch: Batch) -> None:
        """Find, and check, the labels among the rows of each task that is not about all rows of a batch.

        :raise DataError: for labels that are missing as a whole, or can be neither used nor left out
        """
        tasks = self._named(batch) or {}  # without those that were removed
        for name, share in batch.shares.items():
            label, rows = tasks.get(name), batch.rows.get(name)
            # Where the rows are those of the share itself, nobody has looked at the labels.
            if label is None or not (rows is None or rows is share.rows):
                continue
            if label not in batch:
                text = f"task {name!r}: the batch lacks the label source {label!r}"
                raise DataError(f"{text}{nearest(label, batch)}")
            task = self._task(name)
            batch[label] = values = as_tensor(batch[label])
            if task.tokens is not None:
                batch.rows[name] = task.labelled_tokens(batch, label, share.host)
                continue
            about = share.host
            is_tensor = isinstance(values, torch.Tensor)
            own = values[about.to(values.device)] if is_tensor else [values[row] for row in about]
            kept = task.check_labels(own, label)
            batch.rows[name] = about.clone() if kept is None else about[kept.to(about.device)]

    def _prepare_again(self, batch: Batch, kind: BatchKind) -> None:
        """Prepare a batch that was read ahead once more, if tasks have changed meanwhile."""
        replaced = [task.name for task in kind.known if self.tasks.get(task.name) is not task]
        left, batch.kind = batch.tasks, None
        if kind.tasks == left:  # else somebody has taken tasks from it, which they stay
            batch.tasks = dict(kind.named)
        if not replaced and self._carried(batch) == left:
            batch.tasks, batch.kind = left, kind
            return
        for name in replaced:
            batch.rows.pop(name, None)
        self.prepare(batch)

    def _catch_up(self, batch: Batch, kind: BatchKind) -> None:
        """Make a batch that was prepared as one of another kind one of this kind, as where tasks run as one since then.

        :raise DataError: for a label that was left to a loss that would no longer check it, and cannot be used
        """
        left = frozenset() if batch.kind is None else batch.kind.unchecked - kind.unchecked
        for name, label in kind.tasks.items():
            if name in left and label is not None:
                labelled = self._task(name).check_labels(batch[label], label)
                if labelled is not None:
                    batch.rows[name] = labelled
        batch.kind = kind

    def _kind_of(self, batch: Batch) -> BatchKind:
        named = (batch.tasks or None) if self._removed is None else self._named(batch)
        key = tuple(batch), None if named is None else tuple(batch.tasks.items())
        is_mixed = batch.mix is not None or bool(batch.shares)
        kind = self._kinds.get((*key, is_mixed))
        if kind is None or not kind.is_of(self.network):
            with _CHANGING:  # of a change in another thread, all or nothing is to be seen
                kind = self._kinds[*key, is_mixed] = self._find_kind(batch, is_mixed)
        return kind

    def _find_kind(self, batch: Batch, is_mixed: bool) -> BatchKind:
        version = self.network.version  # asked for first: what is found after a change belongs to no version
        named = self._named(batch)
        tasks = self.tasks_of(batch) if named is None else named
        labels = [(self._task(name), label) for name, label in tasks.items() if label is not None]
        for task, label in labels:
            if label not in batch:
                text = f"task {task.name!r}: the batch lacks the label source {label!r}"
                raise DataError(f"{text}{nearest(label, batch)}")
        padded = [pair for pair in labels if takes_padding(*pair, batch)]
        plan = self.network.plan(tuple(tasks))
        sources = list(batch) if plan.takes_all_sources else [name for name in plan.sources if name in batch]
        joins = [] if self._stacks is None or is_mixed else LabelJoin.find(self._stacks.of(tasks), tasks)
        joined = {pair for join in joins for pair in join.labels}
        labels = [pair for pair in labels if pair not in joined]
        moved = dict.fromkeys([*sources, *(label for _, label in labels)])
        on_host = self.device.type == "cpu" and not any(self._task(name).module_device for name in tasks)
        # A loss of other outputs, or of some rows, leaves it to the task.
        checking = on_host and self.precision == "fp32" and not is_mixed
        unchecked = {task.name for task, _ in labels if checking and task.loss_checks_labels}
        labels = [pair for pair in labels if pair[0].name not in unchecked]
        tokens = {name: task for name in tasks if (task := self._task(name)).tokens is not None}
        self._check_tokens([task.name for task in tokens.values()], batch, ("model",))
        kind = BatchKind(self.network, version, tasks, labels, unchecked, joins, tuple(moved), tokens, padded)
        kind.known = tuple(self._task(name) for name in tasks)
        kind.named, kind.is_inferred = dict(batch.tasks), named is None
        kind.is_mixed = is_mixed
        if len(self._kinds) >= MOST_KINDS:
            self._kinds.clear()
        return kind

    # ------------------------------------------------------------------------------------- without the main loop

    def predict(self, batches: Iterable[Mapping[str, Any]]) -> dict[str, TaskPrediction]:
        """Return what every task says about every row; the network's mode is left as it was found.

        :param batches: a loader, or any iterable of batches
        """
        return predict(self, batches)

    def score(
        self,
        data: TaskLoader | Sequence[TaskLoader] | Mapping[str, Iterable[Mapping[str, Any]]],
        global_metrics: Mapping[str, GlobalMetric] | None = None,
    ) -> dict[str, float]:
        """Return all scores by their flat names, e.g. ``digit/digits/valid/accuracy``.

        :param data: a loader or several, whose splits name the streams, or streams of batches by name
        :param global_metrics: name -> function that gets all scores by these names and returns a number; it is
            returned under its name
        """
        return score(self, data, global_metrics)

    def save(self, name_suffix: str = "") -> str:
        """Write the weights to ``<output_dir>/<name>_<suffix>.safetensors`` and return the path.

        :raise ConfigError: if the model has no output_dir
        :raise CheckpointError: if the file cannot be written
        """
        if self._output_dir is None:
            raise ConfigError("MultiTaskModel.save needs an output_dir to write to", ("output_dir",))
        stem = f"{self.name}_{name_suffix}" if name_suffix else self.name
        path = Path(self._output_dir) / f"{stem}.safetensors"
        save_weights(self.network, path)
        return str(path)

    def load(self, path: str | Path) -> None:
        """Load weights that ``save`` has written.

        :raise CheckpointError: if the file cannot be read or does not fit
        """
        load_weights(self.network, path, self.device)

    # ----------------------------------------------------------------------------------------------------- state

    def set_length(self, total_steps: int | None, pass_steps: int | None, missing: str = "") -> None:
        """Learn how long the training will be, for the learning rate and the last accumulation window."""
        if self._stacks is not None:
            self._stacks.check()
        if self._update is not None:
            self._update.set_length(total_steps, pass_steps, missing)

    def state_dict(self) -> dict[str, State]:
        """Return the weights by ``<module>.<parameter>``."""
        return dict(self.network.state_dict())

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Restore the weights.

        :raise RuntimeError: naming what is missing, unexpected, or of another shape
        """
        self.network.load_state_dict(state)

    def checkpoint_bytes(self) -> int:
        """Return the bytes of the weights, of what the optimizer will keep of them, and of open gradients."""
        return super().checkpoint_bytes() + (0 if self._update is None else self._update.checkpoint_bytes())

    def training_state_dict(self) -> dict[str, State]:
        """Return optimizer state, open gradients, counters, and which modules are frozen."""
        stacks = {} if self._stacks is None else self._stacks.state_dict()
        return {} if self._update is None else {**self._update.state_dict(), **stacks}

    def settle(self) -> None:
        """Find out whether all losses and gradients so far are finite, if ``update.on_nan`` says so.

        :raise NotFiniteError: if one is not, and that is an error
        """
        if self._update is not None and self._update.watch is not None:
            self._update.watch.settle()

    def gradients(self) -> dict[str, torch.Tensor]:
        """Return the gradients of an open window by parameter name."""
        return {} if self._update is None else self._update.gradients()

    def load_training_state_dict(self, state: dict[str, State]) -> None:
        """Restore what ``training_state_dict`` returned."""
        if self._stacks is not None:
            self._stacks.dissolve("the state of another moment is restored")
            self._stacks.load_state_dict(state)
        if state:
            self.update.load_state_dict(state)

    def _make_network(self, tasks: Sequence[Task], modules: Mapping[str, nn.Module]) -> TaskNetwork:
        return TaskNetwork(tasks, modules)

    def _has_trainable(self) -> bool:
        return any(parameter.requires_grad for parameter in self.network.parameters())

    def _make_stacks(self) -> TaskStacks | None:
        return TaskStacks(self.network, self._update) if self._stack_tasks and self._update is not None else None

    def _make_update(self) -> Update:
        parameters = {name: p for name, p in self.network.named_parameters() if p.requires_grad}
        scaler = torch.amp.GradScaler(self.device.type) if self.precision == "fp16" else None
        check_names(self._update_settings)
        options = {"scaler": scaler, "output_dir": self._output_dir, **self._update_settings}
        return Update(parameters, self._optimizer_settings, self.network, **options)


def _listed(tasks: object) -> list[Task]:
    """Return the tasks that a caller, or a function that a config names, has given."""
    if isinstance(tasks, Task):
        return [tasks]
    if not isinstance(tasks, Iterable) or isinstance(tasks, str):
        text = f"a list of tasks, or a mapping of names to them, is needed, not {_shown(tasks)}"
        raise ConfigError(text, ("tasks",))
    listed = list(tasks.values()) if isinstance(tasks, Mapping) else list(tasks)
    if not listed:
        raise ConfigError("a model needs at least one task", ("tasks",))
    for task in listed:
        if not isinstance(task, Task):
            raise ConfigError(f"every task must be a Task, not {_shown(task)}", ("tasks",))
    return listed


def _shown(value: object) -> str:
    return "None" if value is None else f"an object of class {type(value).__name__}"
