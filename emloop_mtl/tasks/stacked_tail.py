"""Modules of several tasks as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..optim.stacked_parameter import StackedParameter
from .select_column import SelectColumn
from .stack_signature import is_activation
from .watched import is_watched

Operation = Callable[[Tensor], Tensor]


class StackedTail:
    """Chains of modules, one chain for each of several tasks, that run on one input as one.

    The chains are alike in their ``module_signature``, and begin to differ with the first weights; from there on there
    is a dimension for the tasks before the last one, ``[rows, ..., tasks, features]``.

    :param chains: for each task its modules in the order in which they run, with their names
    """

    def __init__(self, chains: Sequence[Sequence[tuple[str, nn.Module]]]) -> None:
        self.parameters: list[StackedParameter] = []
        self._modules = [module for chain in chains for _, top in chain for module in top.modules()]
        self._children = [(module._modules, dict(module._modules)) for module in self._modules if module._modules]
        self._is_stacked = False
        self._steps: list[tuple[bool, tuple[Operation, ...]]] = []
        for links in zip(*chains, strict=True):
            operations: list[Operation] = []
            self._add([name for name, _ in links], [module for _, module in links], operations)
            self._steps.append((self._is_stacked, tuple(operations)))

    def __call__(self, value: Tensor) -> list[Tensor]:
        """Return what each link of the chains returns.

        :param value: what all chains begin with, [rows, ..., features]
        """
        values = []
        for _, operations in self._steps:
            for operation in operations:
                value = operation(value)
            values.append(value)
        return values

    def part(self, values: Sequence[Tensor], link: int, task: int) -> Tensor:
        """Return what a link of one task's chain has returned."""
        return values[link].select(-2, task) if self._steps[link][0] else values[link]

    def is_intact(self) -> bool:
        """Whether nobody has exchanged modules or weights, frozen some, or asked to be told when a module runs."""
        return (
            all(stacked.is_intact() for stacked in self.parameters)
            and all(present == then for present, then in self._children)
            and not any(map(is_watched, self._modules))
        )

    def _add(self, names: Sequence[str], modules: Sequence[nn.Module], operations: list[Operation]) -> None:
        """Add the operations of one module for each task."""
        first = modules[0]
        if isinstance(first, nn.Sequential):
            for children in zip(*(module.named_children() for module in modules), strict=True):
                inner = [f"{name}.{child}" for name, (child, _) in zip(names, children, strict=True)]
                self._add(inner, [module for _, module in children], operations)
        elif isinstance(first, SelectColumn):
            operations.append(_selection([module.column for module in modules if isinstance(module, SelectColumn)]))
            self._is_stacked = True
        elif is_activation(first):
            if type(first) is not nn.Identity:
                operations.append(first.forward)
        else:
            weight, bias = (self._stack(names, modules, attribute) for attribute in ("weight", "bias"))
            if isinstance(first, nn.LayerNorm):
                operations.append(_layer_norm(first, len(modules), weight, bias, self._is_stacked))
            else:
                assert weight is not None
                make = _stacked_linear if self._is_stacked else _first_linear
                operations.append(make(len(modules), weight, bias))
            self._is_stacked |= weight is not None

    def _stack(self, names: Sequence[str], modules: Sequence[nn.Module], attribute: str) -> nn.Parameter | None:
        if getattr(modules[0], attribute) is None:
            return None
        stacked = StackedParameter([f"{name}.{attribute}" for name in names], modules, attribute)
        self.parameters.append(stacked)
        return stacked.leaf


def _selection(columns: Sequence[int]) -> Operation:
    """Return some of the values of each row, mostly all or neighbours."""
    first, count = columns[0], len(columns)
    if list(columns) == list(range(first, first + count)):
        return lambda value: value.narrow(1, first, count)
    return lambda value: torch.stack([value.select(1, column) for column in columns], 1)


def _first_linear(tasks: int, weight: nn.Parameter, bias: nn.Parameter | None) -> Operation:
    """Return one layer that is as wide as those of all tasks together, for an input that they share."""
    width = weight.shape[0] // tasks

    def run(value: Tensor) -> Tensor:
        flat = functional.linear(value, weight, bias)
        return flat.view(*value.shape[:-1], tasks, width)

    return run


def _stacked_linear(tasks: int, weight: nn.Parameter, bias: nn.Parameter | None) -> Operation:
    """Return the layers of all tasks, each for an input of its own."""
    shape = tasks, -1, weight.shape[1]

    def run(value: Tensor) -> Tensor:
        rows = value if value.dim() == 3 else value.flatten(0, -3)
        rows, transposed = rows.transpose(0, 1), weight.view(shape).transpose(1, 2)
        if bias is None:
            result = torch.bmm(rows, transposed)
        else:
            result = torch.baddbmm(bias.view(tasks, 1, -1), rows, transposed)
        result = result.transpose(0, 1)
        return result if value.dim() == 3 else result.view(*value.shape[:-1], result.shape[-1])

    return run


def _layer_norm(
    module: nn.LayerNorm, tasks: int, weight: nn.Parameter | None, bias: nn.Parameter | None, is_stacked: bool
) -> Operation:
    shape, eps = list(module.normalized_shape), module.eps

    def run(value: Tensor) -> Tensor:
        value = functional.layer_norm(value, shape, eps=eps)
        if weight is None:
            return value
        value = (value if is_stacked else value.unsqueeze(-2)) * weight.view(tasks, -1)
        return value if bias is None else value + bias.view(tasks, -1)

    return run
