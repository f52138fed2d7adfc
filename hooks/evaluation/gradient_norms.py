"""Write the norms of gradients."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.errors import ConfigError, nearest
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.optim.gradient_sizes import entry_names
from emloop_mtl.optim.module_norms import ModuleNorms
from emloop_mtl.types import EpochData, EpochNumber, State

from ..arguments import check_count, check_names, names_as_texts
from ..of_tasks import multi_task_model_of
from .kept_norms import KeptNorms

if TYPE_CHECKING:
    from emloop_mtl.main_loop import MainLoop

VARIABLE = "gradient_norm"


class GradientNorms(AbstractHook):
    """Write how large the gradients of the updates are, all together and by module, and on request by task.

    The numbers are ``mean`` and ``max`` over the updates of an epoch: of ``gradient_norm``, which is what
    ``update.clip_norm`` compares, of ``gradient_norm/<module>``, and with ``tasks`` of
    ``gradient_norm/<module>/<task>``. They are taken of gradients as the update gets them, after the mean of a window
    and without the scale of fp16, but before they are clipped. A module counts in the updates in which it has a
    gradient. Updates that are left out because they are not finite do not count; where they are not left out, the
    numbers are not finite either. Of an optimizer that evaluates a step several times, the first evaluation counts.

    The norms stay on their device until the epoch ends. Of sparse gradients rows are summed up, which waits for it.

    :param modules: names of modules, such as ``trunk``, or ``trunk.0`` for a part of it; by default those that the
        flows name
    :param tasks: whether to find for each batch of these updates, too, what the part of each task in its loss, weight
        included, gives alone, on those ``modules`` that the task runs; by default on modules that several tasks run.
        That takes a backward pass for each task
    :param every: look at every n-th update only
    :raise ConfigError: for modules that the model has not, if it consists of no tasks, or if flows are compiled and
        ``tasks`` is true

    .. code-block:: yaml

        hooks:
          - GradientNorms: {every: 2, tasks: true}
    """

    training_only = True

    def __init__(
        self, modules: Sequence[str | int] | None = None, tasks: bool = False, every: int = 1, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(tasks, bool):
            raise ConfigError(f"{self.name}: tasks must be true or false, not {tasks!r}", ("tasks",))
        self._modules = None if modules is None else check_names(self.name, "modules", names_as_texts(modules))
        self._tasks = tasks
        self._every = check_count(self.name, "every", every)
        self._updates = 0
        """How many updates there were so far."""
        self._kept = KeptNorms(leaves_out=False)
        self._by_task: dict[str, tuple[ModuleNorms, dict[str, nn.Parameter]]] = {}
        """How the gradients of a task are found, and with regard to which parameters."""
        self._version = -1

    def register_mainloop(self, main_loop: MainLoop) -> None:
        """Check the modules."""
        super().register_mainloop(main_loop)
        model = self._model
        known = {name for name, _ in model.network.named_modules() if name}
        for index, name in enumerate(self._modules or ()):
            if name not in known:
                text = f"the model has no module {name!r}{nearest(name, known)}"
                raise ConfigError(f"{self.name}: {text}", ("modules", index))
        self._kept = KeptNorms(model.update.leaves_out_bad)
        self._norms = ModuleNorms(model.network, self._modules)
        if not self._tasks:
            return
        if model.is_compiled:
            text = "a compiled flow runs backward once only, so tasks cannot be told apart: set model.compile: false"
            raise ConfigError(f"{self.name}: {text}, or leave 'tasks' out", ("tasks",))
        if not any(map(self._modules_of, model.tasks)):
            text = "no two tasks run one module, so there is nothing to compare: name 'modules', or leave 'tasks' out"
            raise ConfigError(f"{self.name}: {text}", ("tasks",))

    def requires(self) -> Collection[str | EpochNumber]:
        """Return nothing."""
        return ()

    def provides(self) -> Collection[str | EpochNumber]:
        """Return the numbers of the modules and tasks that there are to begin with."""
        if self._main_loop is None:
            return ()
        model = self._model
        trained = {name for name, p in model.network.named_parameters() if p.requires_grad}
        tops = list(model.network.keys()) if self._modules is None else self._modules
        modules = [name for name in tops if any(each.startswith(f"{name}.") for each in trained)]
        names = [VARIABLE, *(f"{VARIABLE}/{module}" for module in modules)]
        if self._tasks:
            names += [f"{VARIABLE}/{module}/{task}" for task in model.tasks for module in self._modules_of(task)]
        stream = self.main_loop.train_stream_name
        return [EpochNumber(name, stream, aggregation) for name in names for aggregation in ("mean", "max")]

    def before_training(self) -> None:
        """Ask to be told of updates."""
        model = self._model
        model.update.before_clipping.append(self._look_at)
        if self._tasks:
            model.loss_watches.append(self)

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        """Write the numbers."""
        found = self._kept.result()
        if found:
            epoch_data.setdefault(self.main_loop.train_stream_name, {}).update(found)
        self._kept = KeptNorms(self._model.update.leaves_out_bad)

    def after_training(self, success: bool) -> None:
        """Be told no more."""
        model = self._model
        if self._look_at in model.update.before_clipping:
            model.update.before_clipping.remove(self._look_at)
        if self in model.loss_watches:
            model.loss_watches.remove(self)

    def state_dict(self) -> dict[str, State]:
        """Return what has been found in the epoch under way, and how many updates there were."""
        return {"updates": self._updates, "kept": self._kept.state_dict()}

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Go on with the epoch that was under way."""
        self._updates = state["updates"]
        self._kept.load_state_dict(state["kept"])

    @property
    def is_due(self) -> bool:
        """Whether the next batch belongs to an update that is looked at."""
        return (self._updates + 1) % self._every == 0

    def take(self, parts: Mapping[str, Tensor]) -> None:
        """Find the gradients that each task gives alone in a batch.

        :param parts: task -> its part of the loss
        """
        model = self._model
        scale = model.update.loss_scale()
        for task, part in parts.items():
            norms, parameters = self._of_task(task)
            trained = {name: p for name, p in parameters.items() if p.requires_grad}
            if not part.requires_grad or not trained:
                continue
            whole = part if scale is None else part * scale.to(part.device, non_blocking=True)
            found = torch.autograd.grad(whole, list(trained.values()), retain_graph=True, allow_unused=True)
            given = {name: each for name, each in zip(trained, found, strict=True) if each is not None}
            measured = norms(given)
            if measured is not None and measured.modules:
                values = measured.values[1:]
                values = values if scale is None else values / scale.to(values.device, non_blocking=True)
                self._kept.add(tuple(f"{VARIABLE}/{module}/{task}" for module in measured.modules), values)

    def _look_at(self, gradients: Mapping[str, Tensor]) -> None:
        self._updates += 1
        if self._updates % self._every:
            return
        self._renew()
        measured = self._norms(gradients)
        if measured is not None:
            names = [VARIABLE, *(f"{VARIABLE}/{module}" for module in measured.modules)]
            self._kept.add(tuple(names), measured.values)

    @property
    def _model(self) -> MultiTaskModel:
        return multi_task_model_of(self)

    def _of_task(self, task: str) -> tuple[ModuleNorms, dict[str, nn.Parameter]]:
        self._renew()
        if task not in self._by_task:
            model = self._model
            modules = self._modules_of(task)
            known = dict(model.network.named_modules())
            held = {id(p) for name in modules if name in known for p in known[name].parameters()}
            wanted = {name for name, p in model.network.named_parameters() if id(p) in held}
            trained = model.update.parameters
            parameters = {name: p for name, p in trained.items() if not wanted.isdisjoint(entry_names([name]))}
            self._by_task[task] = ModuleNorms(model.network, modules), parameters
        return self._by_task[task]

    def _renew(self) -> None:
        """Look anew what belongs to which task where tasks, or what is trained as one, may have changed."""
        version = self._model.network.version
        if self._version != version:
            self._version = version
            self._norms.forget()
            self._by_task = {}

    def _modules_of(self, task: str) -> list[str]:
        """Return the modules that a task runs and whose gradients it is to be compared by."""
        model = self._model
        run = dict.fromkeys(action.module for action in model.tasks[task].flow)
        if self._modules is not None:
            return [name for name in self._modules if name.split(".")[0] in run]
        others = {action.module for name, each in model.tasks.items() if name != task for action in each.flow}
        return [name for name in run if name in others and any(True for _ in model.network[name].parameters())]
