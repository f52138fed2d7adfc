"""The device that a model runs on."""

from __future__ import annotations

import torch

from ..errors import ConfigError
from ..utils.usable_device import usable_device


def find_device(device: str | torch.device) -> torch.device:
    """Return the device of this name; ``auto`` is CUDA where there is one, else the CPU.

    :raise ConfigError: if it cannot be used
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = usable_device(device)
    except ConfigError as error:
        raise error.below(("device",)) from error.__cause__
    if found.type == "meta":
        raise ConfigError(f"device {device!r} cannot be used: tensors have shapes there, but no values", ("device",))
    return found
