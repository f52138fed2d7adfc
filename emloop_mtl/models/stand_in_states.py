"""The states that a model and its modules have while a stand-in of it runs."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn

from ..tasks.task_network import TaskNetwork
from .abstract_model import AbstractModel
from .copied_states import copied, hooks_of, module_memo
from .own_states import OwnStates


def stand_in_states(model: AbstractModel, network: TaskNetwork, names: Collection[str], copies_own: bool) -> OwnStates:
    """Return copies of the states of a model and its modules, also of those which are losses or outputs of its tasks.

    :param model: the model
    :param network: its network
    :param names: the attributes of the model that are copied
    :param copies_own: whether all others are copied, too, but for the engine's; they may be large
    :raise torch.OutOfMemoryError: if there is no room for it
    """
    tasks = network.tasks.values()
    given = [part.given for task in tasks for part in (task.output, task.loss) if part is not None]
    owners = [getattr(function, "__self__", function) for function in given]
    modules = [network, *(owner for owner in owners if isinstance(owner, nn.Module))]
    own = {id(module): module for parent in modules for module in parent.modules()}.values()
    memo = module_memo(own)
    memo[id(model)] = model
    memo.update((id(task.scorer), task.scorer) for task in tasks)  # which is asked nothing
    for function in given:
        copied(function, memo)  # by itself, so that one that cannot be copied keeps no task from it
    states = OwnStates()
    for module in own:
        if id(module) not in memo:
            continue
        states.add(module, {name: copied(value, memo) for name, value in vars(module).items()})
        for hooks in hooks_of(module):
            states.add_entries(hooks)
    attributes = vars(model).copy()
    for name, value in attributes.items():
        if name in names or (copies_own and not _is_ours(value)):
            attributes[name] = copied(value, memo)
    states.add(model, attributes)
    return states


def is_distributed(module: nn.Module) -> bool:
    """Whether a module works together with those of other processes."""
    parents = (parent.__module__ for parent in type(module).__mro__)
    return any(name.startswith(("torch.distributed.", "torch.nn.parallel.distributed")) for name in parents)


def _is_ours(value: object) -> bool:
    return type(value).__module__.startswith(f"{__name__.partition('.')[0]}.")
