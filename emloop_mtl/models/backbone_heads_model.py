"""A backbone with heads on it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from ..data.batch import Batch
from ..data.share import Share
from ..errors import ConfigError, nearest
from ..optim.optimizers import OptimizerSettings
from ..tasks.task import Task
from ..tasks.task_network import TaskNetwork
from .batch_kind import BatchKind
from .component import BACKBONE, Component
from .device_copy import to_device
from .head import Head
from .head_rows import share_out
from .head_task import HeadTask
from .heads_network import HeadsNetwork
from .heads_run import HeadsRun
from .initializer import Initializer, find_initializer, parameters_of
from .learning_heads import LearningHeads
from .listed_heads import check_keys, check_mapped, head_task, listed_heads
from .mixed_heads import MixedHeads
from .multi_task_model import MultiTaskModel
from .runs_batches import RunsBatches
from .stacked_heads_run import StackedHeadsRun

TASK_SOURCE = "task"


class BackboneHeadsModel(MultiTaskModel):
    """A backbone that encodes a batch, and heads that read what it returns, each of them a task.

    Backbone and heads are called with the values that their ``forward`` has arguments for, by name: the backbone with
    sources, heads with sources and with what the backbone returns, a mapping or one value.

    :param backbone: a module
    :param heads: name -> ``Head``, or a module that returns a mapping with its own ``loss`` where it gets labels
    :param loss_weights: head -> what its loss is multiplied by in the model's loss; 1 by default
    :param arg_name_mapping: ``backbone`` or a head -> name of a source, or of what the backbone returns -> the argument
        that gets it; others go to the argument of their name
    :param allowed_arguments: ``backbone`` or a head -> the arguments that it is called with; by default all of its
        ``forward``, and all that there is where that has ``**kwargs``
    :param initializer: pairs of a regular expression and a function that sets the parameters in whose names it is
        found; see ``Initializer``
    :param task_source: the source that has the name or number of each row's head; only its rows reach a head. A batch
        without it goes to the heads whose inputs it holds, or that its loader names
    :param name: what runs of this model are called
    :param optimizer: as of a ``MultiTaskModel``
    :param update: as of a ``MultiTaskModel``
    :param device: as of a ``MultiTaskModel``
    :param precision: as of a ``MultiTaskModel``
    :param output_dir: as of a ``MultiTaskModel``
    :param stack_tasks: as of a ``MultiTaskModel``
    :param compile: as of a ``MultiTaskModel``
    :raise ConfigError: for heads that cannot be run, and for unknown or wrong settings

    .. code-block:: yaml

        model:
          class: BackboneHeadsModel
          backbone: {class: torch.nn.Linear, in_features: 4, out_features: 16}
          heads:
            kind: {module: {class: torch.nn.Linear, in_features: 16, out_features: 3}, loss: cross_entropy}
          arg_name_mapping: {backbone: {sizes: input}}
    """

    config_items: ClassVar[Mapping[str, type]] = {"heads": Head}
    """Arguments that the config gives as mappings of names to the arguments of an object of this class."""

    config_names: ClassVar[Mapping[str, Callable[..., Callable[..., Any]]]] = {"initializer": find_initializer}
    """Arguments whose objects the config may call by short names."""

    section: ClassVar[str] = "heads"
    """The argument that declares the tasks."""

    weights: ClassVar[str] = "loss_weights"
    """The argument that has the weights of their losses."""

    _copied: ClassVar[tuple[str, ...]] = (
        *MultiTaskModel._copied,
        *("_backbone", "_called", "_learning", "_mixed_heads"),
    )

    default_task_source: ClassVar[str] = TASK_SOURCE
    """The ``task_source`` that data need not have."""

    def __init__(
        self,
        backbone: nn.Module,
        heads: Mapping[str, nn.Module | Head],
        loss_weights: Mapping[str, float] | None = None,
        arg_name_mapping: Mapping[str, Mapping[str, str]] | None = None,
        allowed_arguments: Mapping[str, Iterable[str]] | None = None,
        initializer: Sequence[Any] | None = None,
        task_source: str | None = TASK_SOURCE,
        name: str = "model",
        optimizer: OptimizerSettings | None = None,
        update: Mapping[str, Any] | None = None,
        device: str | torch.device = "auto",
        precision: str = "fp32",
        output_dir: str | Path | None = None,
        stack_tasks: bool = True,
        compile: bool | Mapping[str, Any] = False,
    ) -> None:
        if not isinstance(backbone, nn.Module):
            raise ConfigError(f"the backbone must be an nn.Module, not {backbone!r}", ("backbone",))
        listed = listed_heads(heads)
        weights = loss_weights or {}
        mapping, allowed = arg_name_mapping or {}, allowed_arguments or {}
        check_keys("loss_weights", weights, listed)
        check_keys("arg_name_mapping", mapping, [BACKBONE, *listed])
        check_keys("allowed_arguments", allowed, [BACKBONE, *listed])
        self._backbone = Component(BACKBONE, backbone, mapping.get(BACKBONE), allowed.get(BACKBONE), (BACKBONE,))
        tasks = []
        for key, head in listed.items():
            path = ("heads", key, "module") if isinstance(heads[key], Head) else ("heads", key)
            component = Component(key, head.module, mapping.get(key), allowed.get(key), path)
            tasks.append(head_task(key, head, weights.get(key, 1.0), component, self._backbone))
        self._called: set[str] = set()
        self._learning = LearningHeads()
        self._mixed_heads = MixedHeads()
        if initializer is not None:
            try:
                modules = {BACKBONE: backbone, **{key: head.module for key, head in listed.items()}}
                Initializer(initializer)(parameters_of(modules))
            except ConfigError as error:
                raise error.below(("initializer",)) from error.__cause__
        self.task_source = task_source
        where = device, precision, output_dir, stack_tasks, compile
        super().__init__(tasks, {BACKBONE: backbone}, name, optimizer, update, *where)

    @property
    def _components(self) -> dict[str, Component]:
        """The arguments of backbone and heads by name."""
        return {BACKBONE: self._backbone, **{name: self._head(name).component for name in self.tasks}}

    @property
    def input_names(self) -> Collection[str]:
        """The sources that backbone and heads read where there are such, and the one that tells each row's head."""
        names = set(super().input_names)
        return names if self.task_source is None else {*names, self.task_source}

    def required_sources(self, batch: Batch) -> Collection[str]:
        """Return the sources that backbone and heads read of this batch, labels included.

        :raise ConfigError: if an argument is found nowhere, or more than once
        """
        tasks = self._batch_tasks.carried(batch)
        try:
            given = self._backbone.bind(batch)
            found = [each for name in tasks for each in self._head(name).component.check(batch, self._backbone)]
        except ConfigError as error:
            raise error.below(("model",)) from error
        labels = {label for label in tasks.values() if label is not None}
        return {each.name for each in (*given, *found) if not each.is_encoded} | labels

    def check_tasks(self, batches: Sequence[Batch]) -> None:
        """Check, before a training, that every head and every name that is mapped occurs in the data."""
        known = {source for batch in batches for source in batch}
        if self.task_source not in (None, self.default_task_source, *known):
            text = f"task_source: no loader holds a source {self.task_source!r}{nearest(str(self.task_source), known)}"
            raise ConfigError(text, ("task_source",))
        check_mapped(self._components, known)
        super().check_tasks(batches)

    def prepare(self, batch: Batch) -> Batch:
        """Find the rows of each head, check their labels, and bring the batch to the device.

        :raise DataError: for a row whose head there is not, and for labels that cannot be used
        """
        source = self.task_source
        if batch.mix is not None:
            self._mixed_heads.check(lambda: self._components, self.network.version, batch, batch.mix, source)
        if source is not None and source in batch and batch.count() != 0:
            share_out(batch, source, self.tasks, self._numbered_heads())
        else:
            for name, rows in batch.rows.items():
                if name in self.tasks and self._head(name).computes_loss:  # its loss must not see the other rows
                    batch.shares[name] = Share(rows, rows.cpu())
        batch = super().prepare(batch)
        for name, share in batch.shares.items():
            batch.shares[name] = Share(to_device(share.rows, self.device), share.host)
        return batch

    def settle(self) -> None:
        """Do what other models do, and warn, once, of each head that is trained but has learnt nothing so far."""
        super().settle()
        self._learning.warn(self.network, self.tasks)

    def add_head(
        self,
        name: str,
        head: nn.Module | Head,
        weight: float = 1.0,
        arg_name_mapping: Mapping[str, str] | None = None,
        allowed_arguments: Iterable[str] | None = None,
    ) -> None:
        """Add a head, at any time between two batches; ``remove_task`` removes one.

        :param name: its name; its number is the one after those that there are
        :param head: as of the model, like all that follow
        :raise ConfigError: if it cannot be run with the others; then nothing is changed
        """
        self.add_tasks(self._made_head(name, head, weight, arg_name_mapping, allowed_arguments))

    def update_head(
        self,
        name: str,
        head: nn.Module | Head,
        weight: float = 1.0,
        arg_name_mapping: Mapping[str, str] | None = None,
        allowed_arguments: Iterable[str] | None = None,
    ) -> None:
        """Put a head in the place of the one of its name, at any time between two batches.

        :param name: its name
        :param head: as of the model, like all that follow
        :raise ConfigError: if there is none of that name, or it cannot be run with the others; then nothing is changed
        """
        self.update_task(self._made_head(name, head, weight, arg_name_mapping, allowed_arguments))

    def get_metrics(self, reset: bool = False) -> dict[str, float]:
        """Return the metrics that modules of heads collect by themselves, as ``<head>/<metric>``.

        Only of heads that have been run since the last reset. Metrics of a ``Head`` are collected by ``score`` and by
        the hook ``ScoreTasks``.

        :param reset: whether to begin anew
        """
        metrics: dict[str, float] = {}
        for name in self.tasks:
            collect = getattr(self.network[name], "get_metrics", None)
            if name in self._called and callable(collect):
                metrics.update({f"{name}/{key}": value for key, value in collect(reset).items()})
        if reset:
            self._called.clear()
        return metrics

    def make_output_human_readable(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return outputs of ``run`` with what backbone and heads make of theirs for people to read.

        Each module that has a method ``make_output_human_readable`` gets its own outputs without the name in front.

        :param outputs: what ``run`` has returned where no stream was given
        """
        readable = dict(outputs)
        for name in (BACKBONE, *self.tasks):
            convert = getattr(self.network[name], "make_output_human_readable", None)
            own = {key.removeprefix(f"{name}/"): value for key, value in outputs.items() if key.startswith(f"{name}/")}
            if own and callable(convert):
                readable.update({f"{name}/{key}": value for key, value in convert(own).items()})
        return readable

    def _head(self, name: str) -> HeadTask:
        task = self.network.task(name)
        assert isinstance(task, HeadTask)
        return task

    def _made_head(
        self,
        name: str,
        head: nn.Module | Head,
        weight: float,
        mapping: Mapping[str, str] | None,
        allowed: Iterable[str] | None,
    ) -> HeadTask:
        listed = listed_heads({name: head})[name]
        return head_task(name, listed, weight, Component(name, listed.module, mapping, allowed), self._backbone)

    def _numbered_heads(self) -> Mapping[int, str]:
        """Return the heads by the numbers that ``task_source`` has for them."""
        return dict(enumerate(self.tasks))

    def _is_about_all_rows(self, sources: Collection[str]) -> bool:
        return self.task_source not in sources

    def _needs_label(self, task: Task) -> bool:
        return super()._needs_label(task) and not self._head(task.name).computes_loss

    def _declares_label(self, task: Task, batches: Sequence[Batch]) -> bool:
        is_named = any(batch.tasks.get(task.name) is not None for batch in batches)
        return task.label is not None and (self._names_label(task) or not is_named)

    def _names_label(self, task: Task) -> bool:
        return super()._names_label(task) and self._head(task.name).label_is_given

    def _check_inputs(self, tasks: Sequence[Task], batch: Batch) -> None:
        self._backbone.bind(batch)
        for task in tasks:
            self._head(task.name).component.check(batch, self._backbone)

    def _make_network(self, tasks: Sequence[Task], modules: Mapping[str, nn.Module]) -> TaskNetwork:
        return HeadsNetwork(tasks, modules, self._backbone)

    def _make_run(self, kind: BatchKind, tasks: Sequence[Task], *how: Any) -> RunsBatches:
        heads = [self._head(task.name) for task in tasks]
        state = kind.is_inferred, self._learning, self._called
        if kind.joins:
            assert isinstance(self.network, HeadsNetwork)
            assert self._stacks is not None
            keep_apart = self._stacks.keep_apart
            return StackedHeadsRun(self.network, heads, kind.joins, kind.tasks, keep_apart, *state, *how)
        return HeadsRun(self.network, heads, *state, *how)

    def _settle_stacks(self, batch: Batch) -> None:
        if self._stacks is not None and self.task_source in batch:
            self._stacks.keep_apart(batch.tasks, "batches tell which rows are for which of them")
        super()._settle_stacks(batch)
