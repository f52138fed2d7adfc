"""Looking for nan and infinity on the host."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

LARGE = 2**15
"""Mean size of parameters from which it is faster to sum up each gradient than to go through all at once."""

_KNOWN = (torch.float32, torch.float64)


class HostCheck:
    """Tells whether a loss or gradients on the host hold anything that is not finite, at next to no cost.

    The answer is read from memory that torch writes to, which takes a tenth of the time of asking a tensor.
    """

    def __init__(self) -> None:
        self._number = torch.zeros((), dtype=torch.float64)
        self._number_read = self._number.numpy()
        self._found = torch.zeros(())
        self._found_read = self._found.numpy()
        self._factor = torch.ones(())
        self._parameters: Mapping[str, nn.Parameter] | None = None
        self._at_once = False

    def __reduce__(self) -> tuple[type[HostCheck], tuple[()]]:
        """A copy gets memory of its own."""
        return HostCheck, ()

    def read(self, number: Tensor) -> float:
        """Return what a 0-d tensor holds."""
        self._number.copy_(number)
        return float(self._number_read)

    def gradients_are_finite(self, gradients: Collection[Tensor], parameters: Mapping[str, nn.Parameter]) -> bool:
        """Return whether gradients are finite.

        :param gradients: gradients, none of them sparse
        :param parameters: all parameters that are trained; they tell which way is the fastest
        """
        if not gradients:
            return True
        listed = list(gradients)
        if parameters is not self._parameters:
            sizes = [parameter.numel() for parameter in parameters.values()]
            is_known = all(parameter.dtype in _KNOWN for parameter in parameters.values())
            self._at_once = is_known and sum(sizes) < LARGE * len(sizes)
            self._parameters = parameters
        if self._at_once:
            self._found_read[()] = 0
            try:
                # What fp16 scaling asks of gradients; they are multiplied by 1, which changes none of them.
                torch._amp_foreach_non_finite_check_and_unscale_(listed, self._found, self._factor)
                return not self._found_read
            except RuntimeError:  # a gradient whose numbers share memory, which somebody has put there
                pass
        numbers = [torch.view_as_real(gradient) if gradient.is_complex() else gradient for gradient in listed]
        total = self.read(torch.stack([each.sum() for each in numbers]).sum())
        # Finite numbers can have a sum that is not.
        return math.isfinite(total) or all(bool(each.isfinite().all()) for each in numbers)
