"""An optimizer that updates several parameters as one."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import torch
from torch import nn, optim

from .learning_rate import LearningRate
from .stacked_name import StackedName
from .stacked_parameter import StackedParameter
from .stacked_state import is_joined, join_entries, split_entries, split_tensor

ELEMENTWISE = (
    optim.SGD,
    optim.Adam,
    optim.AdamW,
    optim.Adamax,
    optim.NAdam,
    optim.RAdam,
    optim.Adagrad,
    optim.Adadelta,
    optim.RMSprop,
    optim.Rprop,
)
"""The optimizers that treat each number of a parameter by itself, so that it does not matter what it is stored with."""


class OptimizerStacks:
    """Lets an optimizer hold one leaf in place of several parameters, and these again.

    :param optimizer: the optimizer, with nothing stacked yet
    :param learning_rate: its rate, which knows what the state begins with
    """

    def __init__(self, optimizer: optim.Optimizer, learning_rate: LearningRate) -> None:
        self._optimizer = optimizer
        self._learning_rate = learning_rate
        names = [name for group in optimizer.param_groups for name in group["param_names"]]
        self._places = {name: place for place, name in enumerate(names)}

    @property
    def is_possible(self) -> bool:
        """Whether the optimizer does the same to parameters that are one, and nobody watches what it does."""
        optimizer = self._optimizer
        watched = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
        return type(optimizer) in ELEMENTWISE and not watched

    def conditions(self) -> dict[nn.Parameter, Hashable]:
        """Return for each parameter what must be alike in those that are stacked: group, state, open gradient."""
        found: dict[nn.Parameter, Hashable] = {}
        for index, group in enumerate(self._optimizer.param_groups):
            for parameter in group["params"]:
                entry = self._optimizer.state.get(parameter, {})
                state = tuple((key, _condition(value)) for key, value in sorted(entry.items()))
                found[parameter] = index, state, parameter.grad is None or parameter.grad.layout
        return found

    def stack(self, stacks: Iterable[StackedParameter]) -> None:
        """Hold the leaves of stacks in place of their members, with their state and open gradients.

        :param stacks: their members are alike in their ``conditions``
        """
        for stacked in stacks:
            group = self._group_of(stacked.members[0])
            if group is None:  # frozen, so that the optimizer was not given it
                continue
            self._replace(group, stacked.members, {stacked.name: stacked.leaf})
            for state in (self._optimizer.state, self._learning_rate.initial_state):
                join_entries(state, stacked)
            gradients = [member.grad for member in stacked.members if member.grad is not None]
            if gradients:
                stacked.leaf.grad = torch.cat(gradients)
                for member in stacked.members:
                    member.grad = None

    def unstack(self, stacks: Iterable[StackedParameter]) -> None:
        """Hold the members of stacks again, each with state and open gradient of its own."""
        for stacked in stacks:
            group = self._group_of(stacked.leaf)
            if group is None:
                continue
            self._replace(group, [stacked.leaf], dict(zip(stacked.name.members, stacked.members, strict=True)))
            for state in (self._optimizer.state, self._learning_rate.initial_state):
                split_entries(state, stacked)
            if stacked.leaf.grad is not None:
                parts = split_tensor(stacked.name, stacked.leaf.grad)
                for member, (_, gradient) in zip(stacked.members, parts, strict=True):
                    # Somebody may have run backward through the members, too.
                    member.grad = gradient.clone() if member.grad is None else member.grad + gradient
                stacked.leaf.grad = None

    def _group_of(self, parameter: nn.Parameter) -> dict[str, Any] | None:
        groups: list[dict[str, Any]] = self._optimizer.param_groups
        return next((group for group in groups if any(p is parameter for p in group["params"])), None)

    def _replace(self, group: dict[str, Any], old: Iterable[nn.Parameter], new: Mapping[str, nn.Parameter]) -> None:
        """Replace parameters; their order depends on which they are alone, since norms are summed up in it."""
        gone = set(map(id, old))
        kept = {n: p for n, p in zip(group["param_names"], group["params"], strict=True) if id(p) not in gone}
        entries = sorted({**kept, **new}.items(), key=self._place)
        group["param_names"] = [name for name, _ in entries]
        group["params"] = [parameter for _, parameter in entries]

    def _place(self, entry: tuple[str, nn.Parameter]) -> int:
        name = entry[0]
        return self._places[name.members[0] if isinstance(name, StackedName) else name]


def _condition(value: Any) -> Hashable:
    if not isinstance(value, torch.Tensor):
        return value if isinstance(value, Hashable) else id(value)
    kind = value.dtype, value.device, value.layout, value.shape
    return kind if is_joined(value) else (*kind, value.item())
