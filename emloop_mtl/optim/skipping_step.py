"""The step of an optimizer that is left out where gradients are bad."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer

from .finite_watch import FiniteWatch
from .optimizer_step import OptimizerStep


class SkippingStep:
    """Calls an optimizer's step unless a batch of the window is bad.

    Fused optimizers find that out on the device, where nobody waits for it. For others the host has to know.

    :param step: the step
    :param optimizer: whose step it is
    :param watch: knows which batches are bad
    """

    def __init__(self, step: OptimizerStep, optimizer: Optimizer, watch: FiniteWatch) -> None:
        self._step = step
        self._optimizer: Any = optimizer
        self._watch = watch

    def __call__(self) -> None:
        """Update the parameters, or leave them and the state as they are."""
        found = self._watch.found() if self._decides_on_device() else None
        if found is None:
            if not self._watch.is_bad():
                self._step()
            return
        optimizer = self._optimizer
        optimizer.grad_scale, optimizer.found_inf = None, found
        try:
            self._step()
        finally:
            del optimizer.grad_scale, optimizer.found_inf

    def _decides_on_device(self) -> bool:
        optimizer = self._optimizer
        return getattr(optimizer, "_step_supports_amp_scaling", False) and all(
            # With dampening, momentum begins as the first gradient, in memory that a step left out would never set.
            group.get("fused") and not group.get("dampening")
            for group in optimizer.param_groups
        )
