"""What models of tasks have in common: what they read, what they say, and whether data suit them."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import torch

from ..constants import TRAIN_STREAM
from ..data.batch import Batch
from ..data.column_dataset import ColumnDataset
from ..data.subsets import rows_of, whole
from ..errors import ConfigError, KeyPath, nearest
from ..tasks.flow import check_flow
from ..tasks.padded_labels import check_lengths
from ..tasks.task import Task
from ..tasks.task_network import TaskNetwork
from .abstract_model import AbstractModel
from .batch_tasks import BatchTasks
from .checked_columns import can_check_at_once
from .evaluation import predict, score

if TYPE_CHECKING:
    from ..data.task_loader import TaskLoader
    from ..tasks.global_metrics import GlobalMetric
    from .task_prediction import TaskPrediction

_LOGGER = logging.getLogger(__name__)


class AbstractTaskModel(AbstractModel):
    """Tasks that share modules: what they read and say, and, before a training, whether the data suit them.

    :param network: the modules and tasks
    """

    section: ClassVar[str] = "tasks"
    """The argument that declares the tasks."""

    weights: ClassVar[str] = "tasks"
    """The argument that has the weights of their losses."""

    def __init__(self, network: TaskNetwork) -> None:
        self.network = network
        self._batch_tasks = BatchTasks(network, self.section)
        self._told_left_out = False

    @property
    def tasks(self) -> Mapping[str, Task]:
        """The tasks by name."""
        return self.network.tasks

    @property
    def removed_tasks(self) -> Collection[str]:
        """The names of the tasks that were removed, which loaders and hooks may go on naming."""
        return self._batch_tasks.removed.names

    @property
    def input_names(self) -> Collection[str]:
        """The sources that the flows of all tasks read."""
        return {*self.network.plan(tuple(self.tasks)).sources, *self._batch_tasks.token_sources(self.tasks)}

    @property
    def label_names(self) -> Collection[str]:
        """The label sources of all tasks."""
        labels = {task.label for task in self.tasks.values() if task.label is not None}
        return labels | self._batch_tasks.removed.sources

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
        return self._batch_tasks.held_by(batch)

    def required_sources(self, batch: Batch) -> Collection[str]:
        """Return the sources that the tasks of this batch read, their labels included.

        :raise ConfigError: if the batch carries a task that the model does not know
        """
        tasks = self._batch_tasks.carried(batch)
        labels = {label for label in tasks.values() if label is not None}
        return {*self.network.plan(tuple(tasks)).sources, *self._batch_tasks.token_sources(tasks), *labels}

    def check_sources(self, batch: Batch) -> None:
        """Check, before a training, that the flows of the batch's tasks find what they read."""
        labels = self._batch_tasks.carried(batch)
        try:
            tasks = [self.network.task(name) for name in labels]
        except ConfigError as error:
            raise error.below((self.section,)) from error.__cause__
        self._check_inputs(tasks, batch)
        for task in tasks:
            if task.label is None and labels[task.name] is None and task.loss and not task.loss.takes_all_outputs:
                text = f"task {task.name!r}: its loss {task.loss.name!r} needs labels; set 'label' to their source"
                raise ConfigError(text, (self.section, task.name))
        self._batch_tasks.check_tokens(labels, batch)
        super().check_sources(batch)

    def _check_inputs(self, tasks: Sequence[Task], batch: Batch) -> None:
        """Check that the flows of tasks find what they read."""
        try:
            check_flow(tasks, self.network.keys(), batch)
        except ConfigError as error:
            raise error.below((self.section,)) from error.__cause__

    def check_tasks(self, batches: Sequence[Batch]) -> None:
        """Check, before a training, that no task names a label that no data has, or is left out because of that."""
        self._check_losses()
        known = {source for batch in batches for source in batch}
        carried = {name for batch in batches for name in self._batch_tasks.carried(batch)}
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
        """Check that columns hold labels that can be used, and one for every token where they are labels of tokens.

        :raise DataError: naming a row for which they do not
        """
        data = whole(loader.dataset)
        if not (isinstance(data, ColumnDataset) and loader.reads_as_ever and self._runs_as_ever):
            return  # somebody may make other labels of these
        for name, label in (loader.tasks or self.tasks_of(dict.fromkeys(data.sources))).items():
            if label is None or name not in self.tasks:
                continue
            task, lengths = self.network.task(name), data.lengths(label)
            rows = None if loader.dataset is data else rows_of(loader.dataset, torch.arange(len(loader.dataset)))
            if lengths is not None:
                check_lengths(task, torch.arange(len(data)) if rows is None else rows, lengths, label, data.lengths)
            elif task.tokens is None and self._is_about_all_rows(data.sources):
                values = data.values_of(label, rows)
                if values is not None and can_check_at_once(values, task):
                    task.check_labels(values, label)

    @property
    def _runs_as_ever(self) -> bool:
        """Whether nobody else has a say in what is done with a batch."""
        return not (self._is_own("prepare") or self._is_own("run"))

    def _is_own(self, name: str) -> bool:
        """Whether a method is somebody else's own."""
        of = str(getattr(getattr(type(self), name), "__module__", None))
        return name in vars(self) or not of.startswith(f"{__name__.partition('.')[0]}.")

    def _is_about_all_rows(self, sources: Collection[str]) -> bool:
        """Whether each task of a batch with these sources is about every row of it."""
        return True

    def _check_labelled(self, batch: Batch, known: Collection[str]) -> None:
        """Check that a loader that is trained on names labels for tasks that cannot be learnt without.

        :param known: the sources of all loaders
        """
        for name, label in self._batch_tasks.carried(batch).items():
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
