"""The states that a model and its modules have while a stand-in of it runs."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn

from ..tasks.task_network import TaskNetwork
from .abstract_model import AbstractModel
from .own_states import OwnStates
from .state_copies import StateCopies


def stand_in_states(model: AbstractModel, network: TaskNetwork, names: Collection[str], copies_own: bool) -> OwnStates:
    """Return copies of the states of a model, its modules, and its tasks with their losses and outputs.

    :param model: the model
    :param network: its network
    :param names: the attributes of the model that are copied
    :param copies_own: whether all others are copied, too, but for the engine's, as they are where a loss is a method of
        the model; they may be large
    :raise torch.OutOfMemoryError: if there is no room for it
    :raise CannotTell: if something cannot be copied that would not stay what it is
    """
    given = [part.given for task in network.tasks.values() for part in (task.output, task.loss) if part is not None]
    copies_own |= any(getattr(function, "__self__", None) is model for function in given)
    copies = StateCopies()
    copies.share(model)
    copies.add(network.modules())
    attributes = vars(model).copy()
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
