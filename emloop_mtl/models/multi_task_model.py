"""A network of tasks with its optimizer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import nn

from ..constants import TRAIN_STREAM
from ..data.batch import Batch
from ..errors import ConfigError, nearest
from ..optim.learning_rate import LearningRate
from ..optim.optimizers import OptimizerSettings, read_settings
from ..optim.same_conditions import SameConditions
from ..optim.update import Update
from ..optim.update_settings import check_names
from ..tasks.task import Task
from ..tasks.task_network import TaskNetwork
from ..types import State
from ..utils.observers import Observers
from .abstract_task_model import AbstractTaskModel
from .batch_kind import BatchKind
from .batch_preparation import CHANGING, BatchPreparation
from .batch_run import BatchRun
from .dry_update import DryUpdate
from .find_device import find_device
from .freezing import Freezing
from .frozen_part import FrozenPart
from .mixed_batch_run import MixedBatchRun
from .plan_compiler import PlanCompiler
from .runs_batches import RunsBatches
from .stacked_batch_run import StackedBatchRun
from .stand_in import StandIn
from .stand_in_states import is_distributed, stand_in_states
from .task_stacks import TaskStacks
from .watches_losses import WatchesLosses
from .weights_file import load_weights, save_weights

if TYPE_CHECKING:
    from ..data.stream_wrapper import StreamWrapper

_LOGGER = logging.getLogger(__name__)

PRECISIONS: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class MultiTaskModel(AbstractTaskModel):
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

    _copied: ClassVar[tuple[str, ...]] = ("_batch_tasks", "_freezing")
    """What a stand-in has of its own beside modules."""

    config_items: ClassVar[Mapping[str, type]] = {"tasks": Task}
    """Arguments that the config gives as mappings of names to the arguments of an object of this class."""

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
            super().__init__(self._make_network(listed, modules or {}))
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
        self._told_modules: set[str] = set()
        """Modules of which it was told that no flow runs them."""
        self._freezing = Freezing(self.network)
        self.loss_watches: Observers[WatchesLosses] = Observers()
        """Who gets the part of each task in the loss of a batch, before the backward pass."""
        self._preparation = self._make_preparation()
        if self._has_trainable():
            self._update = self._make_update()
        self._stack_tasks = stack_tasks
        self._stacks = self._preparation.stacks = self._make_stacks()

    # --------------------------------------------------------------------------------------- what it consists of

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

    def check_tasks(self, batches: Sequence[Batch]) -> None:
        """Check, before a training, that no task names a label that no data has, or is left out because of that."""
        super().check_tasks(batches)
        unused = ", ".join(repr(name) for name in self.network.unused_modules if name not in self._told_modules)
        if unused:
            self._told_modules.update(self.network.unused_modules)
            _LOGGER.warning("no flow runs the module %s", unused)
        if self._stacks is not None:
            self._stacks.learn(batch for batch in batches if batch.split == TRAIN_STREAM)

    # --------------------------------------------------------------------------------------------- changing tasks

    def add_tasks(self, *tasks: Task | Iterable[Task]) -> None:
        """Add tasks, at any time between two batches; what is new is trained with the next update.

        Modules that are already known keep their weights. The optimizer goes on with what it remembers.

        :param tasks: one task after the other, or lists of them
        :raise ConfigError: if one cannot be run with the others, or the optimizer's settings do not fit; then nothing
            is changed
        """
        with CHANGING:
            listed = [task for given in tasks for task in _listed(given)]
            self._change_tasks(lambda: self.network.add_tasks(*listed))
            for task in listed:
                self._batch_tasks.removed.discard(task.name)

    def update_task(self, task: Task) -> None:
        """Put a task in the place of the one of its name, at any time between two batches.

        The modules that it defines replace those of their names, also for other tasks.

        :raise ConfigError: as ``add_tasks`` does, or if there is no task of that name
        """
        with CHANGING:
            self._change_tasks(lambda: self.network.update_task(task))

    def remove_task(self, name: str) -> None:
        """Remove a task, and the modules that only it uses, at any time between two batches.

        Batches whose loaders name it are run without it from then on.

        :raise ConfigError: as ``add_tasks`` does, or if there is no task of that name, or no other
        """
        label = self.network.task(name).label
        if len(self.tasks) == 1:
            raise ConfigError(f"task {name!r} cannot be removed: a model needs at least one task")
        sources = {*self.network.plan((name,)).sources, *([] if label is None else [label])}
        with CHANGING:
            self._change_tasks(lambda: self.network.remove_task(name))
            self._batch_tasks.removed.add(name, sources)

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
            self._stacks = self._preparation.stacks = self._make_stacks()
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
        with CHANGING:
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
        return self._preparation.prepare(batch)

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

    def stand_in(self, as_trained: bool = False) -> StandIn | None:
        """Return what evaluates batches as this model does, every task by itself and uncompiled, and changes nothing.

        None where modules work together with those of other processes, or hold what cannot be copied and would not stay
        what it is.

        :param as_trained: whether its modules run as in training although it evaluates
        """
        distributed = next(filter(is_distributed, self.network.modules()), None)
        if distributed is not None:
            text = "whether the modules fit will show in the first batch: a %s works together with other processes"
            _LOGGER.info(text, type(distributed).__name__)
            return None
        evaluated = {*self._frozen_modules, *self._freezing.evaluated}
        frozen = [
            module in evaluated or (self.network.training and not module.training) for module in self.network.modules()
        ]
        try:
            states = stand_in_states(self, self.network, self._copied, copies_own=not self._runs_as_ever)
            stand_in = StandIn(self, states, is_run_own=self._is_own("run"))
            with stand_in.in_place():
                self._become_stand_in(as_trained, frozen)
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except Exception as error:  # there is no end to what objects raise that are looked at
            _LOGGER.info("whether the modules fit will show in the first batch: %s", str(error) or type(error).__name__)
            return None
        return stand_in

    def _become_stand_in(self, as_trained: bool, frozen: Sequence[bool]) -> None:
        """Be what only tries batches, in a state of its own.

        :param as_trained: whether modules run as in training
        :param frozen: for each module whether it does not even then
        """
        self._stacks = self._compiler = None
        if self._update is not None:
            self._update, self.loss_watches = cast(Update, DryUpdate()), Observers()
        self._preparation = self._make_preparation()
        modules = list(self.network.modules())
        self._frozen_modules = [module for module, is_frozen in zip(modules, frozen, strict=True) if is_frozen]
        for module, is_frozen in zip(modules, frozen, strict=True):
            module.training = as_trained and not is_frozen
        self.network.training = False  # else a run would set the mode of all

    def try_training(self, batch: Batch) -> None:
        """Run a batch as one that is trained on, in the mode that modules are in, but without an update.

        :raise DataError: if it lacks labels that it needs
        """
        batch = self.prepare(batch.copy())
        self._run_of(batch, True, frozenset()).forward(batch, True)

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

    def _run_of(self, batch: Batch, train: bool, outputs: frozenset[str] | None) -> RunsBatches:
        kind: BatchKind | None = batch.kind
        # Tasks may have been taken from a batch since it was prepared.
        if kind is None or not kind.is_of(self.network) or kind.tasks != batch.tasks:
            if kind is not None and not kind.is_of(self.network) and self._preparation.is_outdated(batch, kind):
                self.prepare(batch)
            kind = self._preparation.kind_of(batch)
        if train and not kind.is_settled:
            if self._stacks is not None:
                self._settle_stacks(batch)
                kind = kind if kind.is_of(self.network) else self._preparation.kind_of(batch)
            kind.is_settled = True
        if kind is not batch.kind:
            self._preparation.catch_up(batch, kind)
        run = kind.runs.get(outputs)
        if run is None:
            tasks = [self.network.task(name) for name in batch.tasks]
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

    def _make_preparation(self) -> BatchPreparation:
        return BatchPreparation(self.network, self._batch_tasks, self.device, self.precision == "fp32")

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
