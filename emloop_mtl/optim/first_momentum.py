"""What a parameter's momentum begins with."""

from __future__ import annotations

from typing import Any

import torch


class FirstMomentum:
    """Gives each parameter that a fused SGD is about to update a momentum of 0 if it has none yet.

    The fused kernel breaks off where some of them have a momentum and others have not, as is the case where tasks take
    turns. It makes no difference to the update: without dampening, momentum is the gradient to begin with.

    :param optimizer: any optimizer; others than fused SGD are left alone
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        is_sgd = isinstance(optimizer, torch.optim.SGD)
        self.is_needed = is_sgd and any(group.get("fused") for group in optimizer.param_groups)
        """Whether it ever does anything."""
        self._complete: dict[Any, Any] | None = None
        self._entries = 0

    def __call__(self) -> None:
        """Look through the parameters, unless all have been found to have a momentum."""
        state = self._optimizer.state
        if state is self._complete and len(state) == self._entries:
            return
        is_complete = True
        for group in self._optimizer.param_groups:
            if not group["fused"] or not group["momentum"] or group["dampening"]:
                continue
            for parameter in group["params"]:
                if state.get(parameter, {}).get("momentum_buffer") is not None:
                    continue
                if parameter.grad is None:
                    is_complete = False
                    continue
                momentum = torch.zeros_like(parameter, memory_format=torch.preserve_format)
                state[parameter]["momentum_buffer"] = momentum
        # Where momentum is 0 there are no entries, and a schedule may raise it later.
        if is_complete and state:
            self._complete, self._entries = state, len(state)
