"""The weights of a network as a file that needs no code to be read."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from ..errors import CheckpointError
from ..utils.tensor_tree import take_apart


def save_weights(network: nn.Module, path: Path) -> None:
    """Write the weights of a network in the safetensors format, tied ones once; the folder is made.

    :raise CheckpointError: if the file cannot be written
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    partial = path.with_suffix(".tmp")
    tree = take_apart(network.state_dict())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {name: _alone(tensor) for name, tensor in tree.tensors.items()}
        save_file(tensors, partial, metadata={"format": "pt", **tree.ties})
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: the weights cannot be written: {error}") from error


def load_weights(network: nn.Module, path: str | Path, device: torch.device) -> None:
    """Load weights that ``save_weights`` has written.

    :raise CheckpointError: if the file cannot be read or does not fit
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path, device=str(device))
        for name, owner in take_apart(network.state_dict()).ties.items():
            if name not in tensors and owner in tensors:
                tensors[name] = tensors[owner]
            elif owner not in tensors and name in tensors:
                tensors[owner] = tensors[name]
        network.load_state_dict(tensors)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be loaded as weights of this model: {error}") from error


def _alone(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor that fills its storage, as the format wants it; those of tasks that run as one share theirs."""
    tensor = tensor.detach().contiguous()
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()
