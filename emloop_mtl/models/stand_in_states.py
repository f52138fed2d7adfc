"""The states that a model and its modules have while a stand-in of it runs."""

from __future__ import annotations

from collections.abc import Collection
from types import MethodType

from torch import nn

from ..tasks.task_network import TaskNetwork
from .abstract_model import AbstractModel
from .own_states import OwnStates
from .state_copies import StateCopies


def stand_in_states(model: AbstractModel, network: TaskNetwork, names: Collection[str], copies_own: bool) -> OwnStates:
    """Return copies of the states of a model and its modules, also of those which are losses or outputs of its tasks.

    :param model: the model
    :param network: its network
    :param names: the attributes of the model that are copied
    :param copies_own: whether all others are copied, too, but for the engine's; they may be large
    :raise torch.OutOfMemoryError: if there is no room for it
    :raise CannotTell: if something cannot be copied that would not stay what it is
    """
    tasks = network.tasks.values()
    given = [part.given for task in tasks for part in (task.output, task.loss) if part is not None]
    owners = [function.__self__ for function in given if isinstance(function, MethodType)]
    modules = [network, *(owner for owner in (*given, *owners) if isinstance(owner, nn.Module))]
    copies = StateCopies()
    for shared in (model, *(task.scorer for task in tasks)):  # a scorer is asked nothing
        copies.share(shared)
    copies.add({id(module): module for parent in modules for module in parent.modules()}.values())
    attributes = vars(model).copy()
    copies_own |= any(owner is model for owner in owners)
    for name, value in attributes.items():
        if name in names or (copies_own and not _is_ours(value)):
            attributes[name] = copies.copied(value)
    copies.states.add(model, attributes)
    return copies.states


def is_distributed(module: nn.Module) -> bool:
    """Whether a module works together with those of other processes."""
    parents = (parent.__module__ for parent in type(module).__mro__)
    return any(name.startswith(("torch.distributed.", "torch.nn.parallel.distributed")) for name in parents)


def _is_ours(value: object) -> bool:
    return type(value).__module__.startswith(f"{__name__.partition('.')[0]}.")
