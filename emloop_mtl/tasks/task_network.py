"""The modules of all tasks as one plain module."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from ..data.per_kind import MOST_KINDS
from ..errors import ConfigError, nearest
from ..utils.usable_device import usable_device
from .flow import check_flow
from .plan import Plan
from .task import Task

_LOGGER = logging.getLogger(__name__)


class TaskNetwork(nn.ModuleDict):
    """The modules that tasks are made of, by name; ``state_dict`` keys are ``<module>.<parameter>``.

    Calling it runs flows; it needs nothing of the engine, so it can be exported or used on its own. Where a module name
    is defined more than once, the first definition holds.

    :param tasks: the tasks
    :param modules: modules that tasks may name without defining them
    :raise ConfigError: for flows that cannot be run, names that cannot name a module, or two tasks of one name
    """

    def __init__(self, tasks: Iterable[Task] = (), modules: Mapping[str, nn.Module] | None = None) -> None:
        super().__init__()
        self._tasks: dict[str, Task] = {}
        self._plans: dict[tuple[str, ...], Plan] = {}
        self._device: torch.device | None = None
        self.version = 0
        """Grows whenever tasks, and with them the plans, may have changed."""
        try:
            self._define(modules or {}, "modules")
        except ConfigError as error:
            raise error.below(("modules",)) from error.__cause__
        self.add_tasks(*tasks)

    @property
    def tasks(self) -> Mapping[str, Task]:
        """The tasks by name."""
        return MappingProxyType(self._tasks)

    def task(self, name: str) -> Task:
        """Return a task.

        :raise ConfigError: if there is none of that name
        """
        if name not in self._tasks:
            raise ConfigError(f"the model has no task {name!r}{nearest(name, self._tasks)}")
        return self._tasks[name]

    def add_tasks(self, *tasks: Task) -> None:
        """Add tasks; modules that are already known keep their weights.

        :raise ConfigError: if one cannot be run with the others; then none is added
        """
        for index, task in enumerate(tasks):
            if task.name in self._tasks or any(task.name == other.name for other in tasks[:index]):
                raise ConfigError(f"there are two tasks called {task.name!r}", (task.name, "name"))
        self._accept([*self._tasks.values(), *tasks], {*self.keys(), *(key for task in tasks for key in task.modules)})
        known = dict(self.items())
        for task in tasks:
            known = {**task.modules, **known}
            _infer_num_classes(task, known)
        for task in tasks:
            self._define(task.modules, f"task {task.name!r}")
            self._tasks[task.name] = task

    def update_task(self, task: Task) -> None:
        """Put a task in the place of the one of its name; the modules that it defines replace those of their names.

        :raise ConfigError: if there is no task of that name, or it cannot be run with the others
        """
        before = self.task(task.name)
        others = [task if name == task.name else other for name, other in self._tasks.items()]
        self._accept(others, {*self.keys(), *task.modules})
        _infer_num_classes(task, {**dict(self.items()), **task.modules})
        for name, module in task.modules.items():
            self._add(name, module, f"task {task.name!r}")
        self._tasks[task.name] = task
        self._drop_unused(before)

    def remove_task(self, name: str) -> None:
        """Remove a task, and the modules that only it defines or runs.

        :raise ConfigError: if there is no such task
        """
        before = self.task(name)
        del self._tasks[name]
        self.forget_plans()
        self._drop_unused(before)

    def keep(self) -> tuple[dict[str, Task], dict[str, nn.Module]]:
        """Return what tasks and modules there are, for ``put_back``."""
        return dict(self._tasks), dict(self.items())

    def put_back(self, kept: tuple[Mapping[str, Task], Mapping[str, nn.Module]]) -> None:
        """Have the tasks and modules again that there were when ``keep`` was called."""
        tasks, modules = kept
        self._tasks.clear()
        self._tasks.update(tasks)
        self.clear()
        self.update(modules)
        self.forget_plans()

    def plan(self, names: Sequence[str]) -> Plan:
        """Return the compiled plan for some tasks, in the order of their names.

        :raise ConfigError: for an unknown name
        """
        key = tuple(names)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._make_plan([self.task(name) for name in key])
            if len(self._plans) >= MOST_KINDS:
                self._plans.clear()
            self._plans[key] = plan
        return plan

    def finds_inputs(self, name: str, sources: Collection[str]) -> bool:
        """Whether all that the flow of a task reads is among the sources."""
        return all(source in sources for source in self.plan((name,)).sources)

    def forget_plans(self) -> None:
        """Compile the plans anew, since what they run may have changed."""
        self._plans.clear()
        self.version += 1

    def place(self, device: torch.device) -> None:
        """Move every module to ``device``, or to the one that a task's ``module_device`` names for it."""
        self._device = device
        self.forget_plans()
        for name, place in self._placement().items():
            self[name].to(place)

    def forward(self, sources: Mapping[str, Any], tasks: Sequence[str] | None = None) -> dict[str, Any]:
        """Run the flows of some tasks and return the outputs of all their actions by name.

        :param sources: source name -> value, on the device where the modules are
        :param tasks: task names; None for all
        """
        plan = self.plan(tuple(self._tasks) if tasks is None else tasks)
        outputs = plan.run(self, sources)
        return {name: outputs[name] for name in plan.action_names}

    def _make_plan(self, tasks: Sequence[Task]) -> Plan:
        return Plan(tasks, self._placement() if self._module_devices() else None)

    def _accept(self, tasks: Sequence[Task], module_names: set[str]) -> None:
        check_flow(tasks, module_names)
        for name, device in _merge_devices(tasks).items():
            try:
                usable_device(str(device))
            except ConfigError as error:
                task = next(task for task in tasks if name in task.module_device)
                text = f"{task.kind} {task.name!r}: module {name!r}: {error}"
                raise ConfigError(text, (task.name, *task.device_path(name))) from error.__cause__
        self.forget_plans()

    def _define(self, modules: Mapping[str, nn.Module], owner: str) -> None:
        for name, module in modules.items():
            if name not in self:
                self._add(name, module, owner)
            elif self[name] is not module:
                _LOGGER.debug("%s: module %r is already defined, the first definition holds", owner, name)

    def _add(self, name: str, module: nn.Module, owner: str) -> None:
        if not isinstance(module, nn.Module):
            raise ConfigError(
                f"{owner}: {name!r} must be an nn.Module (in YAML a mapping with 'class'), not {module!r}", (name,)
            )
        try:
            self[name] = module
        except KeyError as error:
            raise ConfigError(
                f"{owner}: {name!r} cannot name a module ({error.args[0]}); rename it", (name,)
            ) from error

    @property
    def unused_modules(self) -> list[str]:
        """The names of modules that no task defines, and no flow runs."""
        used = {name for task in self._tasks.values() for name in _modules_of(task)}
        return [name for name in self.keys() if name not in used]

    def _drop_unused(self, before: Task) -> None:
        """Drop what only a task that is gone has used; a module that none has used stays what it is."""
        for name in _modules_of(before).intersection(self.unused_modules):
            del self[name]

    def _module_devices(self) -> dict[str, torch.device]:
        return _merge_devices(self._tasks.values())

    def _placement(self) -> dict[str, torch.device]:
        named = self._module_devices()
        places = {name: named.get(name, self._device) for name in self}
        return {name: place for name, place in places.items() if place is not None}


def _modules_of(task: Task) -> set[str]:
    """Return the names of the modules that a task defines or runs."""
    return {*task.modules, *(action.module for action in task.flow)}


def _infer_num_classes(task: Task, modules: Mapping[str, nn.Module]) -> None:
    try:
        task.infer_num_classes(modules)
    except ConfigError as error:
        raise error.below((task.name,)) from error.__cause__


def _merge_devices(tasks: Iterable[Task]) -> dict[str, torch.device]:
    places: dict[str, torch.device] = {}
    for task in tasks:
        for name, device in task.module_device.items():
            if places.setdefault(name, device) != device:
                text = f"module {name!r} cannot be on {device}, another task puts it on {places[name]}"
                raise ConfigError(f"task {task.name!r}: {text}", (task.name, "module_device", name))
    return places
