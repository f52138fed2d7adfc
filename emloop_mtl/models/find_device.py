"""The device that a model runs on."""

from __future__ import annotations

import torch

from ..errors import ConfigError


def find_device(device: str | torch.device) -> torch.device:
    """Return the device of this name; ``auto`` is CUDA where there is one, else the CPU.

    :raise ConfigError: if it cannot be used
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, TypeError, ImportError) as error:  # the last where torch needs an extension
        raise ConfigError(f"device {device!r} cannot be used: {str(error).splitlines()[0]}", ("device",)) from error
    if found.type == "meta":
        raise ConfigError(f"device {device!r} cannot be used: tensors have shapes there, but no values", ("device",))
    return found
