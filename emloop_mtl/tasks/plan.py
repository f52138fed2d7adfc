"""From the flows of several tasks to one plan that a batch is run by."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch.nn.modules.module import _has_any_global_hook

from ..errors import ConfigError, DataError, nearest
from ..utils.model_note import ModelNote
from .action import Action
from .action_input import INPUT, ActionInput, follow
from .flow_outputs import FlowOutputs
from .nested import map_tensors
from .quick_call import quick_call
from .task import Task


class _Modules(Protocol):
    """Modules, or what is called in their place, by name."""

    def __getitem__(self, name: str, /) -> Callable[..., Any]: ...


class _Operation(NamedTuple):
    task: str
    number: int
    action: Action
    parts: tuple[tuple[int, tuple[str | int, ...]], ...]
    visible: dict[str, int] | None
    device: torch.device | None

    @property
    def only_slot(self) -> int | None:
        """The slot of the one value that is handed over whole, as most modules take it; None for anything else."""
        is_plain = self.visible is None and self.device is None and len(self.parts) == 1 and not self.parts[0][1]
        return self.parts[0][0] if is_plain else None

    @property
    def note(self) -> ModelNote:
        """What an error of the module is told with."""
        module = self.action.module
        text = f"in task {self.task!r}, action {self.action.name!r}, module {module!r}"
        return ModelNote(text, ("modules", module), ("tasks", self.task, "modules", module), ("tasks", self.task))


class Plan:
    """The actions of some tasks in the order in which they run, each name once.

    A value lives in a slot: slot 0 holds the batch, then come the sources, then the actions.

    :param tasks: the tasks in the order in which they run; their flows have passed ``check_flow``
    :param devices: module name -> the device its inputs are moved to; a module that is not named gets them as they are
    """

    def __init__(self, tasks: Iterable[Task], devices: Mapping[str, torch.device] | None = None) -> None:
        tasks = list(tasks)
        self.task_names = tuple(task.name for task in tasks)
        made: dict[str, int] = {INPUT: 0}
        actions = {action.name: (task, action) for task in reversed(tasks) for action in reversed(task.flow)}
        self.sources = tuple(
            dict.fromkeys(
                source for task in tasks for action in task.flow for source in _sources(action, actions.keys())
            )
        )
        self.takes_all_sources = any(
            not action.inputs or any(part.is_source and not part.path for part in action.inputs)
            for _, action in actions.values()
        )
        self._users = {
            name: tuple(task.name for task in tasks if any(action.name == name for action in task.flow))
            for name in actions
        }
        source_slots = {source: slot for slot, source in enumerate(self.sources, 1)}
        operations: list[_Operation] = []
        for task in tasks:
            visible = {INPUT: 0}
            for number, action in enumerate(task.flow):
                if action.name not in made:
                    parts = tuple(_locate(part, made, source_slots) for part in action.inputs)
                    seen = None if action.inputs else dict(visible)
                    device = devices.get(action.module) if devices else None
                    operations.append(_Operation(task.name, number, action, parts, seen, device))
                    made[action.name] = len(source_slots) + len(operations)
                visible[action.name] = made[action.name]
        self._operations = tuple(operations)
        self._calls = tuple((entry.action.module, entry.only_slot, entry) for entry in operations)
        self._slots = made

    @property
    def action_names(self) -> tuple[str, ...]:
        """The names of the actions in the order in which they run."""
        return tuple(operation.action.name for operation in self._operations)

    @property
    def module_names(self) -> tuple[str, ...]:
        """The names of the modules that take part."""
        return tuple(dict.fromkeys(operation.action.module for operation in self._operations))

    def run(self, modules: _Modules, batch: Mapping[str, Any], quick: bool = False) -> FlowOutputs:
        """Run every action once and return what they returned.

        :param modules: module name -> what is called
        :param batch: the sources, on the device where the modules are
        :param quick: whether modules are ``torch.nn.Module``s and may be called by ``quick_call``
        :raise DataError: if the batch lacks a source
        :raise ConfigError: if an input has no such part as an action takes of it
        """
        try:
            values = [batch, *[batch[source] for source in self.sources]]
        except KeyError as error:
            raise self._missing(batch) from error
        quick = quick and not _has_any_global_hook()  # type: ignore[no-untyped-call]
        for name, slot, operation in self._calls:
            module = modules[name]
            arguments = self._arguments(operation, values) if slot is None else ()
            try:
                if slot is None:
                    values.append(module(*arguments))
                else:
                    values.append(quick_call(module, values[slot]) if quick else module(values[slot]))
            except Exception as error:
                error.add_note(operation.note)
                raise
        return FlowOutputs(self._slots, values)

    @property
    def slots(self) -> Mapping[str, int]:
        """The places of the actions among the values of a run, after the batch and its sources."""
        return self._slots

    def users(self, action: str) -> tuple[str, ...]:
        """Return the names of the tasks in whose flows an action is."""
        return self._users[action]

    def run_picked(
        self, modules: _Modules, batch: Mapping[str, Any], pick: Callable[[str, Sequence[Any]], Sequence[Any]]
    ) -> list[Any]:
        """Run every action once, each on what is picked for it, and return all values in their slots.

        :param modules: module name -> what is called
        :param batch: the sources
        :param pick: gets the name of an action and the values so far, and returns what it shall have in their place
        :raise DataError: if the batch lacks a source
        :raise ConfigError: if an input has no such part as an action takes of it
        """
        try:
            values = [batch, *[batch[source] for source in self.sources]]
        except KeyError as error:
            raise self._missing(batch) from error
        for operation in self._operations:
            arguments = self._arguments(operation, pick(operation.action.name, values))
            try:
                values.append(modules[operation.action.module](*arguments))
            except Exception as error:
                error.add_note(operation.note)
                raise
        return values

    def _arguments(self, operation: _Operation, values: Sequence[Any]) -> list[Any]:
        if operation.visible is not None:
            everything = {name: values[slot] for name, slot in operation.visible.items()}
            return [everything if operation.device is None else move(everything, operation.device)]
        try:
            arguments = [follow(values[slot], path) if path else values[slot] for slot, path in operation.parts]
        except LookupError as error:
            asked = ", ".join(map(str, operation.action.inputs))
            place = f"task {operation.task!r}, action {operation.action.name!r}, inputs '{asked}'"
            mistake = ConfigError(f"{place}: {error.args[0]}")
            action = ("tasks", operation.task, "flow", operation.number)
            mistake.add_note(ModelNote(f"in {place}", (*action, "inputs"), ("tasks", operation.task)))
            raise mistake from error
        device = operation.device
        return arguments if device is None else [move(argument, device) for argument in arguments]

    def _missing(self, batch: Mapping[str, Any]) -> DataError:
        slot, source = next((slot, name) for slot, name in enumerate(self.sources, 1) if name not in batch)
        user = next(entry for entry in self._operations if any(place == slot for place, _ in entry.parts))
        place = f"task {user.task!r}, action {user.action.name!r}"
        return DataError(f"{place}: the batch holds no source {source!r}{nearest(source, batch)}")


def certain_sources(action: Action) -> Iterator[str]:
    """Return the sources that an action names as such, through ``_input_``."""
    return (str(part.path[0]) for part in action.inputs if part.is_source and part.path)


def _sources(action: Action, actions: Collection[str]) -> Iterator[str]:
    yield from certain_sources(action)
    yield from (part.name for part in action.inputs if not part.is_source and part.name not in actions)


def _locate(
    part: ActionInput, made: Mapping[str, int], source_slots: Mapping[str, int]
) -> tuple[int, tuple[str | int, ...]]:
    if part.is_source:
        return (source_slots[str(part.path[0])], part.path[1:]) if part.path else (0, ())
    return (made[part.name] if part.name in made else source_slots[part.name]), part.path


def move(value: Any, device: torch.device) -> Any:
    return map_tensors(value, lambda tensor: tensor.to(device, non_blocking=True))
