"""What of a network is frozen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from .frozen_part import FrozenPart


class _Frozen(NamedTuple):
    """Parameters that are not trained, and modules that run as in evaluation."""

    parameters: list[nn.Parameter]
    modules: list[nn.Module]


class Freezing:
    """Freezes parts of a network, and trains again what it has frozen itself.

    What is in several parts is frozen as long as one of them is.

    :param network: the network
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self.parts: list[FrozenPart] = []
        """What is frozen at present."""
        self._frozen: list[nn.Parameter] = []
        """Parameters that would be trained otherwise."""
        self.evaluated: list[nn.Module] = []
        """Modules that run as in evaluation."""

    def plan(self, parts: Sequence[FrozenPart]) -> _Frozen | None:
        """Return what is to be frozen where these parts are, None if all of it is already and nothing else."""
        ours = set(map(id, self._frozen))
        wanted = {id(p): p for part in parts for p in part.parameters_of(self._network)}
        parameters = [p for p in wanted.values() if p.requires_grad or id(p) in ours]
        modules = {id(m): m for part in parts for m in part.evaluated_modules_of(self._network)}
        is_same = {id(p) for p in parameters if not p.requires_grad} == ours == set(map(id, parameters))
        if is_same and modules.keys() == set(map(id, self.evaluated)):
            return None
        return _Frozen(parameters, list(modules.values()))

    def set(self, parts: Sequence[FrozenPart], frozen: _Frozen) -> None:
        """Freeze what ``plan`` has returned for these parts, and nothing else.

        Gradients of what is frozen are dropped: an update would move a parameter that has one.
        """
        self.parts = list(parts)
        for parameter in self._frozen:
            parameter.requires_grad_(True)
        for parameter in frozen.parameters:
            parameter.requires_grad_(False)
            parameter.grad = None
        self._frozen, self.evaluated = frozen.parameters, frozen.modules
