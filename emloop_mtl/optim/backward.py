"""The backward pass."""

from __future__ import annotations

import torch
from torch.autograd import Variable
from torch.overrides import has_torch_function_unary


class Backward:
    """Adds the gradients of a loss to those that the parameters hold.

    On the CPU it calls torch's engine directly: what ``torch.autograd.backward`` does before that takes as long as
    the backward pass of a small layer. On other devices the engine works in threads of its own, which are handed
    the settings of torch's compiler by that function.
    """

    def __init__(self) -> None:
        self._ends: dict[tuple[float, torch.dtype, torch.device], torch.Tensor] = {}

    def __call__(self, loss: torch.Tensor, factor: float = 1.0) -> None:
        """Add the gradients of ``loss`` times ``factor``; the factor costs nothing.

        :param loss: 0-d
        """
        end = self._end(loss, factor)
        if end.device.type != "cpu" or has_torch_function_unary(loss):
            torch.autograd.backward(loss, end)
            return
        run = Variable._execution_engine.run_backward
        run((loss,), (end,), False, False, (), allow_unreachable=True, accumulate_grad=True)

    def _end(self, loss: torch.Tensor, factor: float) -> torch.Tensor:
        """Return the gradient that the pass begins with at the loss."""
        key = factor, loss.dtype, loss.device
        end = self._ends.get(key)
        # A hook on the loss that changes its gradient in place would change it for all steps to come.
        if end is None or end._version:
            end = self._ends[key] = torch.full((), factor, dtype=loss.dtype, device=loss.device)
        return end
