"""Values of a batch as tensors on the model's device."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

_HARDLY_SUPPORTED = frozenset((torch.uint16, torch.uint32, torch.uint64))
"""Dtypes that torch can hold but not compare or index with."""


def to_device(value: Any, device: torch.device) -> Any:
    """Return a value of a batch for the device: arrays and lists of numbers become tensors.

    Floating-point arrays and lists come out in torch's default dtype, tensors keep theirs. Copies to CUDA start
    from pinned memory and do not wait. What is not numeric, such as a list of strings, is returned as it is.
    """
    if type(value) is torch.Tensor and value.device == device and value.dtype not in _HARDLY_SUPPORTED:
        return value  # as nearly always
    tensor = as_tensor(value)
    if not isinstance(tensor, torch.Tensor) or tensor.device == device:
        return tensor
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def as_tensor(value: Any) -> Any:
    """Return arrays and lists of numbers as tensors, anything else as it is; what is uint16 or wider becomes int64."""
    if isinstance(value, torch.Tensor):
        return value.long() if value.dtype in _HARDLY_SUPPORTED else value
    if isinstance(value, list | tuple) and value and isinstance(value[0], int | float | np.ndarray | np.generic | list):
        try:
            array = np.asarray(value)
        except ValueError:  # rows of different lengths
            return value
    else:
        array = value
    if isinstance(array, np.ndarray) and array.dtype.kind in "fiub":
        tensor = torch.as_tensor(array)
        return tensor.to(torch.get_default_dtype()) if tensor.is_floating_point() else as_tensor(tensor)
    return value
