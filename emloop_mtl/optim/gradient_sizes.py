"""How large gradients are, by parameter."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from .stacked_name import StackedName


def given_gradients(parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Return the gradients that there are, of a sparse one its values, but for those without any number."""
    found = {}
    for name, parameter in parameters.items():
        gradient = parameter.grad
        if gradient is not None:
            values = gradient._values() if gradient.is_sparse else gradient
            if values.numel():
                found[name] = values
    return found


def largest_numbers(gradients: Mapping[str, Tensor], device: torch.device) -> Tensor | None:
    """Return the size of the largest number of each gradient, as a vector; nan where one is nan, None without any.

    Nothing waits for the device. A gradient of parameters that are one has an entry for each of them, so
    ``entry_names`` says what the entries belong to.

    :param device: where the vector is wanted
    """
    plain = [gradient.detach() for name, gradient in gradients.items() if not isinstance(name, StackedName)]
    parts = []
    if plain:
        if len({gradient.device for gradient in plain}) == 1:
            parts += [torch.stack(torch._foreach_norm(plain, math.inf)).to(device)]
        else:
            parts += [torch.linalg.vector_norm(gradient, math.inf).reshape(1).to(device) for gradient in plain]
    for name, gradient in gradients.items():
        if isinstance(name, StackedName):
            rows = gradient.detach().reshape(len(name.members), -1)
            parts.append(torch.linalg.vector_norm(rows, math.inf, dim=1).to(device))
    return torch.cat(parts) if parts else None


def entry_names(names: Iterable[str]) -> list[str]:
    """Return the parameters that the entries of ``largest_numbers`` belong to.

    :param names: the names of its gradients, in their order
    """
    names = list(names)
    entries = [name for name in names if not isinstance(name, StackedName)]
    return entries + [member for name in names if isinstance(name, StackedName) for member in name.members]
