"""Which tasks can be run as one."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence

from torch import nn

from .action import Action
from .action_input import ActionInput
from .select_column import SelectColumn
from .stack_signature import is_activation, module_signature
from .task import Task
from .watched import is_watched

FEWEST = 3
"""Two tasks that run as one take longer than two that do not: what joins and parts them costs more than it saves."""


def find_stacks(
    tasks: Sequence[Task], network: nn.ModuleDict, conditions: Mapping[nn.Parameter, Hashable], known: Iterable[Task]
) -> list[list[Task]]:
    """Return the tasks whose remaining flow is the same, ``FEWEST`` or more in each list.

    What remains of a flow is a chain of actions that no other task has, from one value that it shares with others.

    :param tasks: those to choose from
    :param network: all modules
    :param conditions: what else must be alike of parameters
    :param known: all tasks, which may use the actions and modules of these
    """
    known = list(known)
    if any(task.module_device for task in known):
        return []
    uses = _Uses(known, network)
    found: dict[Hashable, list[Task]] = {}
    for task in tasks:
        signature = _signature(task, uses, network, conditions)
        if signature is not None:
            found.setdefault(signature, []).append(task)
    return [alike for alike in found.values() if len(alike) >= FEWEST]


def tail_of(task: Task, known: Iterable[Task]) -> tuple[Action, ...]:
    """Return the last actions of a task's flow that no other task has."""
    actions = Counter(action.name for other in known for action in other.flow)
    return _private_end(task, actions)


class _Uses:
    """How often the actions, modules and weights of a model are used."""

    def __init__(self, tasks: Iterable[Task], network: nn.ModuleDict) -> None:
        flows = [task.flow for task in tasks]
        self.actions = Counter(action.name for flow in flows for action in flow)
        once = {action.name: action for flow in flows for action in flow}
        self.modules = Counter(action.module for action in once.values())
        self.inputs = Counter(part.name for action in once.values() for part in action.inputs)
        # By their memory, which different parameters may share.
        self.memory = Counter(p.data_ptr() for _, p in network.named_parameters(remove_duplicate=False))


def _signature(
    task: Task, uses: _Uses, network: nn.ModuleDict, conditions: Mapping[nn.Parameter, Hashable]
) -> Hashable | None:
    """Return what is equal for tasks that can be run as one; None for a task that runs apart."""
    loss = None if task.loss is None else task.loss.row_signature
    tail = _private_end(task, uses.actions)
    # A subclass may check labels, or compute whatever else, in a way of its own.
    if not task.may_be_stacked or loss is None or task.output.name is None or not _is_chain(task, tail, uses):
        return None
    if task.tokens is not None:
        return None
    modules = [network[action.module] for action in tail]
    selects = len(modules) == 1 and type(modules[0]) is SelectColumn and not is_watched(modules[0])
    signatures = (SelectColumn,) if selects else tuple(map(module_signature, modules))
    parameters = [parameter for module in modules for parameter in module.parameters()]
    if (
        None in signatures
        or not (parameters or selects)
        or any(uses.memory[parameter.data_ptr()] > 1 for parameter in parameters)
        or any(uses.modules[action.module] > 1 for action in tail)
        or _changes_its_input(modules)
    ):
        return None
    missing = task.missing_label
    return (
        tail[0].inputs,
        signatures,
        tuple(conditions.get(parameter) for parameter in parameters),
        loss,
        task.output.name,
        task.num_classes,
        "nan" if missing is not None and math.isnan(missing) else missing,
    )


def _private_end(task: Task, actions: Mapping[str, int]) -> tuple[Action, ...]:
    start = len(task.flow)
    while start and actions[task.flow[start - 1].name] == 1:
        start -= 1
    return task.flow[start:]


def _is_chain(task: Task, tail: Collection[Action], uses: _Uses) -> bool:
    """Whether nothing of a task but its end is private, and each action there takes what the one before it returns."""
    private = [action for action in task.flow if uses.actions[action.name] == 1]
    if not tail or len(private) != len(tail) or any(len(action.inputs) != 1 for action in tail):
        return False
    start, *others = tail
    part = start.inputs[0]
    if part.is_source and len(part.path) != 1:
        return False
    if part.path and not part.is_source and not any(action.name == part.name for action in task.flow):
        return False
    chained = all(action.inputs == (ActionInput(before.name),) for before, action in zip(tail, others, strict=False))
    # Other flows may take an action's name for that of a source.
    return chained and uses.inputs[private[-1].name] == 0 and all(uses.inputs[a.name] == 1 for a in private[:-1])


def _changes_its_input(modules: Sequence[nn.Module]) -> bool:
    """Whether the value that is shared with others is changed in place."""
    for module in _leaves(modules):
        if not is_activation(module):
            return False
        if getattr(module, "inplace", False):
            return True
    return False


def _leaves(modules: Iterable[nn.Module]) -> Iterator[nn.Module]:
    for module in modules:
        if isinstance(module, nn.Sequential):
            yield from _leaves(module.children())
        else:
            yield module
