"""The weights of a network as a file that needs no code to be read."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from ..errors import CheckpointError


def save_weights(network: nn.Module, path: Path) -> None:
    """Write the weights of a network in the safetensors format; the folder is made.

    :raise CheckpointError: if the file cannot be written
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_model

    partial = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_model(network, str(partial))
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: the weights cannot be written: {error}") from error


def load_weights(network: nn.Module, path: str | Path, device: torch.device) -> None:
    """Load weights that ``save_weights`` has written.

    :raise CheckpointError: if the file cannot be read or does not fit
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_model

    try:
        load_model(network, str(path), device=str(device))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be loaded as weights of this model: {error}") from error
