"""What must be alike where a batch is evaluated again."""

from __future__ import annotations

import torch
from torch import nn

from ..types import State
from ..utils.random import get_random_state, set_random_state


class SameConditions:
    """A context in which random state and buffers are as they were when it was made, however often it is entered.

    So the loss of a batch becomes a function of the parameters alone: dropout masks and noise are the same in each
    evaluation. What was met on entering is put back on leaving: batch statistics count a batch once, and later
    random numbers do not depend on how often it was evaluated.

    :param network: the module whose buffers may change
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._then = self._now()
        self._met = self._then

    def __enter__(self) -> None:
        self._met = self._now()
        self._put_back(*self._then)

    def __exit__(self, *error: object) -> None:
        self._put_back(*self._met)

    def _now(self) -> tuple[dict[str, State], list[torch.Tensor]]:
        return get_random_state(), [buffer.clone() for buffer in self._network.buffers()]

    def _put_back(self, random_state: dict[str, State], buffers: list[torch.Tensor]) -> None:
        set_random_state(random_state)
        with torch.no_grad():
            for buffer, value in zip(self._network.buffers(), buffers, strict=True):
                buffer.copy_(value)
