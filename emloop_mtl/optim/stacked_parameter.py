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
        addresses = [member.data_ptr() for member in self.members]
        self._found = list(zip(self.members, self._places, addresses, strict=True))

    def is_intact(self) -> bool:
        """Whether the parameters are still those of their modules, with the leaf's values, and left alone."""
        # As plain as can be: it may be asked before every batch.
        attribute, required = self._attribute, self.leaf.requires_grad
        for member, place, address in self._found:
            if (
                place.get(attribute) is not member
                or member.data_ptr() != address
                or member.requires_grad is not required
                or member.grad is not None
                or member._backward_hooks
                or member._post_accumulate_grad_hooks
            ):
                return False
        return True

    def release(self) -> None:
        """Give each parameter memory of its own; one that somebody has given other values keeps these."""
        for member, _, address in self._found:
            if member.data_ptr() == address:
                member.data = member.data.clone()
