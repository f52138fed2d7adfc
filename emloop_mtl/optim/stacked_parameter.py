"""Parameters of one shape that are trained as one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from .stacked_name import StackedName


class StackedParameter:
    """Parameters of one shape, whose values from now on are parts of one leaf, one after the other in its rows.

    So whoever reads, saves or loads the parameters goes on as before, and one operation of the leaf is one of all. A
    graph must be made of the leaf, which is what gradients and the optimizer's state belong to.

    :param names: the names that the parameters are checkpointed under
    :param owners: the module that each belongs to
    :param attribute: what it is called there
    """

    def __init__(self, names: Sequence[str], owners: Sequence[nn.Module], attribute: str) -> None:
        self.name = StackedName(names)
        self._places = [owner._parameters for owner in owners]
        self._attribute = attribute
        self.members: tuple[nn.Parameter, ...] = tuple(getattr(owner, attribute) for owner in owners)
        with torch.no_grad():
            values = torch.cat([member.detach() for member in self.members])
        self.leaf = nn.Parameter(values, requires_grad=self.members[0].requires_grad)
        self._take(values)

    def _take(self, values: torch.Tensor) -> None:
        for member, value in zip(self.members, values.chunk(len(self.members)), strict=True):
            member.data = value
        self._addresses = [member.data_ptr() for member in self.members]

    def is_intact(self) -> bool:
        """Whether the parameters are still those of their modules, with the values that the leaf has."""
        attribute, required = self._attribute, self.leaf.requires_grad
        return all(
            member is place.get(attribute)
            and member.data_ptr() == address
            and member.requires_grad is required
            and not member._backward_hooks
            for place, member, address in zip(self._places, self.members, self._addresses, strict=True)
        )

    def release(self) -> None:
        """Give each parameter memory of its own; one that somebody has given other values keeps these."""
        for member, address in zip(self.members, self._addresses, strict=True):
            if member.data_ptr() == address:
                member.data = member.data.clone()
