"""What a copy of a network shares with it, and what it must not share, for nothing to change where it is run."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from types import CellType, FunctionType, MethodType
from typing import Any

from torch import Tensor, nn
from torch.utils.data import Dataset

from ..data.abstract_dataset import AbstractDataset
from ..tasks.task_network import TaskNetwork
from .abstract_model import AbstractModel


def shared_parts(network: TaskNetwork) -> dict[int, Any]:
    """Return what a copy takes in the place of parts of a network, as the ``memo`` of ``copy.deepcopy``.

    These are weights that are not trained, which may be many. Others are copied, since modules may write to them even
    where they are evaluated, as an ``nn.Embedding`` with ``max_norm`` does; their gradients will take as much memory.
    """
    memo: dict[int, Any] = {}
    for parameter in network.parameters():
        memo[id(parameter)] = twin = copy.deepcopy(parameter) if parameter.requires_grad else parameter
        twin.__dict__.update(parameter.__dict__)  # which torch leaves out
    shared: list[Any] = []
    for task in network.tasks.values():
        shared.append(task.scorer)  # which is asked nothing
        for given in (task.output.given, None if task.loss is None else task.loss.given):
            if isinstance(given, MethodType) and _is_shared(given.__self__):
                shared.append(given.__self__)
    return memo | {id(each): each for each in shared}


def part_functions(network: TaskNetwork, memo: dict[int, Any]) -> None:
    """Give losses, outputs and attributes of modules that are closures variables of their own.

    ``copy.deepcopy`` takes functions as they are.

    :param network: the copy
    :param memo: what it was made with
    """

    def part(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        if isinstance(function, partial):
            inner = part(function.func)
            return function if inner is function.func else partial(inner, *function.args, **function.keywords)
        return _copied(function, memo) if isinstance(function, FunctionType) else function

    for module in network.modules():
        vars(module).update({name: part(value) for name, value in vars(module).items() if callable(value)})
    for task in network.tasks.values():
        task.output.exchange(part)
        if task.loss is not None:
            task.loss.exchange(part)


def _copied(function: FunctionType, memo: dict[int, Any]) -> FunctionType:
    if not function.__closure__:
        return function
    if id(function) in memo:
        twin: FunctionType = memo[id(function)]
        return twin
    cells = {id(cell): (cell, CellType()) for cell in function.__closure__ if id(cell) not in memo}
    memo.update({place: own for place, (_, own) in cells.items()})
    closure = tuple(memo[id(cell)] for cell in function.__closure__)
    code, names = function.__code__, function.__globals__
    memo[id(function)] = twin = FunctionType(code, names, function.__name__, function.__defaults__, closure)
    twin.__kwdefaults__ = function.__kwdefaults__
    twin.__dict__.update(function.__dict__)
    for cell, own in cells.values():
        own.cell_contents = _copied_variable(cell.cell_contents, memo)
    return twin


def _copied_variable(value: Any, memo: dict[int, Any]) -> Any:
    if isinstance(value, FunctionType):
        return _copied(value, memo)
    if _is_shared(value):
        return value
    if isinstance(value, nn.Module):  # such as a teacher
        memo.update({id(parameter): parameter for parameter in value.parameters() if id(parameter) not in memo})
    return copy.deepcopy(value, memo)


def _is_shared(value: Any) -> bool:
    """Whether something may be too large to be copied."""
    return isinstance(value, Dataset | AbstractDataset | AbstractModel)
