"""A backbone and a head for each task, trained on batches with rows of several tasks."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import torch
from torch import nn

from ..data.batch import Batch
from ..errors import CheckpointError, ConfigError, DataError
from ..optim.optimizers import OptimizerSettings
from ..tasks.task import Task
from ..types import State
from ..utils.plain import check_plain
from .activations import Activations
from .backbone_heads_model import BackboneHeadsModel
from .batch_kind import BatchKind
from .head import Head
from .head_task import HeadTask
from .joint_heads import joint_heads, numbered, with_names
from .joint_run import OUTPUTS, JointRun
from .runs_batches import RunsBatches

LABEL = "label"
"""The source of the labels where nobody names another."""


class JointLearning(BackboneHeadsModel):
    """A backbone and one head for each task; each row of a batch is of one task, whose head alone sees it.

    Batches are of one task, as their loader says, or of several: then ``task_source`` says which row is of which, or
    the scheduler that has mixed them. Their loss is the mean over the tasks that are present of the mean loss of each,
    a task being present if it has a labelled row. Beside the losses there are, if somebody reads them: ``preds``, each
    row's prediction by its task's head, unless those of the tasks differ in shape; ``acc``, the mean over the tasks
    present of the accuracy of each that has classes, nan if there is none; ``loss_cls``, the loss without
    ``loss_weights``; and ``activations``, a mapping.

    :param backbone: a module
    :param heads: id or name of a task -> ``Head`` or module; one that says no ``loss`` is trained with cross entropy,
        and with that scored by accuracy if it says no ``metrics``. Where all ids are whole numbers, these are what
        ``task_source`` holds, else the numbers 0, 1, … of the heads in their order, or their names. See ``LinearHeads``
    :param label: the source of the labels of all tasks whose head or loader names no other; ``label`` by default
    :param task_source: the source that has the task of each row
    :param activations: layers of the backbone, as ``named_modules`` calls them, whose outputs are the entries of
        ``activations``; by default what the backbone returns: the entries of a mapping, or ``backbone``
    :param hparams: plain data about the run that the model has no use for itself; see ``hparams``
    :param loss_weights: task -> what its loss is multiplied by before the mean is taken; 1 by default
    :param arg_name_mapping: as of a ``BackboneHeadsModel``
    :param allowed_arguments: as of a ``BackboneHeadsModel``
    :param initializer: as of a ``BackboneHeadsModel``
    :param name: what runs of this model are called
    :param optimizer: as of a ``MultiTaskModel``
    :param update: as of a ``MultiTaskModel``
    :param device: as of a ``MultiTaskModel``
    :param precision: as of a ``MultiTaskModel``
    :param output_dir: as of a ``MultiTaskModel``
    :param compile: as of a ``MultiTaskModel``
    :raise ConfigError: for heads that cannot be run, and for unknown or wrong settings

    .. code-block:: yaml

        model:
          class: JointLearning
          backbone: {class: torch.nn.Linear, in_features: 4, out_features: 16}
          heads: {class: LinearHeads, input_dim: 16, classes: {1: 10, 2: 5}}
          arg_name_mapping: {backbone: {x: input}}
          label: y
    """

    _copied: ClassVar[tuple[str, ...]] = (*BackboneHeadsModel._copied, "_activations")

    default_task_source: ClassVar[str] = "task_id"
    """The ``task_source`` that data need not have."""

    def __init__(
        self,
        backbone: nn.Module,
        heads: Mapping[int | str, nn.Module | Head],
        label: str | None = None,
        task_source: str | None = default_task_source,
        activations: Sequence[str] | None = None,
        hparams: Mapping[str, Any] | None = None,
        loss_weights: Mapping[int | str, float] | None = None,
        arg_name_mapping: Mapping[int | str, Mapping[str, str]] | None = None,
        allowed_arguments: Mapping[int | str, Iterable[str]] | None = None,
        initializer: Sequence[Any] | None = None,
        name: str = "model",
        optimizer: OptimizerSettings | None = None,
        update: Mapping[str, Any] | None = None,
        device: str | torch.device = "auto",
        precision: str = "fp32",
        output_dir: str | Path | None = None,
        compile: bool | Mapping[str, Any] = False,
    ) -> None:
        self._label = label or LABEL
        named = joint_heads(heads, self._label)
        self._hparams = _checked_hparams(hparams)
        super().__init__(
            backbone,
            named,
            loss_weights=with_names(loss_weights),
            arg_name_mapping=with_names(arg_name_mapping),
            allowed_arguments=with_names(allowed_arguments),
            initializer=initializer,
            task_source=task_source,
            name=name,
            optimizer=optimizer,
            update=update,
            device=device,
            precision=precision,
            output_dir=output_dir,
            stack_tasks=False,  # no row is of two tasks, so no two heads ever get the same rows
            compile=compile,
        )
        self._without_label = {
            str(key) for key, head in heads.items() if not isinstance(head, Head) or head.label is None
        }
        """The tasks whose heads name no label."""
        for key in self._without_label:
            self._head(key).label_is_given = label is not None
        self._activations = Activations(backbone, activations)

    @property
    def output_names(self) -> Collection[str]:
        """The outputs of the tasks, and what is said of a batch as a whole."""
        return [*super().output_names, *OUTPUTS]

    @property
    def hparams(self) -> dict[str, Any]:
        """The hyperparameters that were given; else those of the checkpoint that was loaded."""
        return copy.deepcopy(self._hparams or {})

    def check_tasks(self, batches: Sequence[Batch]) -> None:
        """Check, before a training, what other models check, and that each row will be of one task."""
        for batch in batches:
            try:
                self._check_one_task_each(batch)
            except DataError as error:
                where = f"loader {batch.data_name!r}, split {batch.split!r}: " if batch.data_name else ""
                raise ConfigError(f"{where}{error}", ("task_source",)) from error
        super().check_tasks(batches)

    def prepare(self, batch: Batch) -> Batch:
        """Find the rows of each task, check their labels, and bring the batch to the device.

        :raise DataError: for a batch that does not tell the task of each row, for a row whose task there is not, and
            for labels that cannot be used
        """
        self._check_one_task_each(batch)
        batch = super().prepare(batch)
        if len(batch.tasks) > 1 and batch.count():
            rows = [share.host for share in batch.shares.values()]  # of tasks that were removed, too
            if not batch.tasks.keys() <= batch.shares.keys() or not _are_all(torch.cat(rows), batch.count() or 0):
                raise DataError(f"each row must be of one task, which those of {', '.join(batch.tasks)} are not")
        return batch

    def training_state_dict(self) -> dict[str, State]:
        """Return what other models return, and the hyperparameters."""
        state = super().training_state_dict()
        return state if self._hparams is None else {**state, "hparams": self.hparams}

    def load_training_state_dict(self, state: dict[str, State]) -> None:
        """Restore what ``training_state_dict`` returned; hyperparameters only where none were given."""
        state = dict(state)
        kept = state.pop("hparams", None)
        if self._hparams is None:
            self._hparams = kept
        super().load_training_state_dict(state)

    def _check_one_task_each(self, batch: Batch) -> None:
        names = batch.tasks or self.tasks
        if len(names) == 1 or batch.shares or (self.task_source is not None and self.task_source in batch):
            return
        source = "" if self.task_source is None else f"it holds no source {self.task_source!r}, and "
        told = f"its loader names {len(batch.tasks)} tasks" if batch.tasks else "its loader names no task"
        text = f"nothing tells which of the tasks {', '.join(names)} a row of the batch is of"
        raise DataError(f"{text}: {source}{told}; set model.task_source, or the loader's tasks to one")

    def _refuse_label(self, task: Task, known: Collection[str]) -> NoReturn:
        try:
            super()._refuse_label(task, known)
        except ConfigError as error:
            raise ConfigError(str(error), ("label",) if task.name in self._without_label else error.path) from error

    def _numbered_heads(self) -> Mapping[int, str]:
        heads = numbered(self.tasks)
        if not next(iter(self.tasks)).isdecimal():  # names have the numbers of their places
            return heads
        return {**heads, **{int(name): name for name in self._batch_tasks.removed.names if name.isdecimal()}}

    def _made_head(
        self,
        name: str,
        head: nn.Module | Head,
        weight: float,
        mapping: Mapping[str, str] | None,
        allowed: Iterable[str] | None,
    ) -> HeadTask:
        named = joint_heads({**dict.fromkeys(self.tasks, head), name: head}, self._label)
        return super()._made_head(str(name), named[str(name)], weight, mapping, allowed)

    def _make_run(self, kind: BatchKind, tasks: Sequence[Task], *how: Any) -> RunsBatches:
        unchecked, outputs, *others = how
        inner = super()._make_run(kind, tasks, unchecked, JointRun.needed(tasks, outputs), *others)
        return JointRun(inner, tasks, outputs, self._activations)


def _are_all(rows: torch.Tensor, size: int) -> bool:
    """Whether each row is there once."""
    return len(rows) == size and torch.equal(rows.sort().values, torch.arange(size))


def _checked_hparams(hparams: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if hparams is None:
        return None
    if not isinstance(hparams, Mapping):
        raise ConfigError(f"hparams must be a mapping, not {hparams!r}", ("hparams",))
    try:
        check_plain(dict(hparams), "hparams")
    except CheckpointError as error:
        raise ConfigError(str(error), ("hparams",)) from error
    return copy.deepcopy(dict(hparams))
