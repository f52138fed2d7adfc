"""Which tensors hold numbers that are not finite."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from .stacked_name import StackedName

_SUMMED = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128)


def bad_names(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the names of tensors that hold nan or infinity; to know it waits for their device once or twice.

    :param tensors: tensors by name; of parameters that are one, each has its own name among those returned
    """
    named = {
        name: tensor.detach()
        for name, tensor in tensors.items()
        if tensor.dtype in _SUMMED and tensor.layout is torch.strided and not tensor.is_nested and tensor.numel()
    }
    if not named:
        return []
    # A sum that is finite is of finite numbers; and it takes less time to sum up than to look at each number.
    device = next(iter(named.values())).device
    sums = torch.stack([tensor.sum().abs().to(device, torch.float32) for tensor in named.values()])
    found: list[str] = []
    for (name, tensor), number in zip(named.items(), sums.tolist(), strict=True):
        if math.isfinite(number):
            continue
        if isinstance(name, StackedName):
            parts = zip(name.members, tensor.chunk(len(name.members)), strict=True)
            found += [member for member, part in parts if not bool(part.isfinite().all())]
        elif not bool(tensor.isfinite().all()):
            found.append(name)
    return found
