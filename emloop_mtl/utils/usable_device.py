"""Devices that can be used."""

from __future__ import annotations

import torch

from ..errors import ConfigError


def usable_device(device: str | torch.device) -> torch.device:
    """Return the device of this name.

    :raise ConfigError: if it cannot be used
    """
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, TypeError, ImportError) as error:  # the last where torch needs an extension
        raise ConfigError(f"device {device!r} cannot be used: {str(error).splitlines()[0]}") from error
    return found
