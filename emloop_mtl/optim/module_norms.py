"""Norms of gradients by module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..data.per_kind import MOST_KINDS
from .gradient_sizes import entry_names
from .norms import Norms
from .stacked_name import StackedName


class ModuleNorms:
    """Finds the norms of gradients, without waiting for the device; but the rows of sparse ones are summed up for that.

    A gradient of parameters that are trained as one counts for the module of each.

    :param network: the network
    :param modules: names of its modules, as ``named_modules`` calls them; None for those at its top
    """

    def __init__(self, network: nn.Module, modules: Sequence[str] | None = None) -> None:
        self._network = network
        self._modules = modules
        self._layouts: dict[tuple[str, ...], tuple[tuple[str, ...], Tensor]] = {}
        """Names of gradients -> the modules that they are of, and where the norms of these are found."""

    def __call__(self, gradients: Mapping[str, Tensor]) -> Norms | None:
        """Return the norms of the modules that have a gradient; None where none has.

        :param gradients: gradients by the names of parameters
        """
        if not gradients:
            return None
        values = _entry_norms(gradients)
        names = tuple(gradients)
        layout = self._layouts.get(names)
        if layout is None or layout[1].device != values.device:
            if len(self._layouts) >= MOST_KINDS:
                self._layouts.clear()
            layout = self._layouts[names] = self._find_layout(names, values.device)
        modules, places = layout
        total = torch.linalg.vector_norm(values).reshape(1)
        if not modules:
            return Norms(modules, total)
        by_module = torch.linalg.vector_norm(torch.cat([values, values.new_zeros(1)])[places], dim=1)
        return Norms(modules, torch.cat([total, by_module]))

    def forget(self) -> None:
        """Look anew which parameters belong to which modules."""
        self._layouts.clear()

    def _find_layout(self, names: Sequence[str], device: torch.device) -> tuple[tuple[str, ...], Tensor]:
        places = {name: place for place, name in enumerate(entry_names(names))}
        known = {id(parameter): name for name, parameter in self._network.named_parameters()}
        modules = dict(self._network.named_children() if self._modules is None else self._network.named_modules())
        found: dict[str, list[int]] = {}
        for module in modules if self._modules is None else self._modules:
            parameters = modules[module].parameters() if module in modules else ()
            entries = [places[name] for name in (known[id(p)] for p in parameters) if name in places]
            if entries:
                found[module] = entries
        most = max(map(len, found.values()), default=0)
        padded = [entries + [len(places)] * (most - len(entries)) for entries in found.values()]
        return tuple(found), torch.tensor(padded, dtype=torch.int64).to(device, non_blocking=True)


def _entry_norms(gradients: Mapping[str, Tensor]) -> Tensor:
    """Return the norm of each gradient as a vector, in the order of ``entry_names``."""
    plain = [_values(gradient) for name, gradient in gradients.items() if not isinstance(name, StackedName)]
    parts: list[Tensor] = []
    if plain:
        kinds = {(gradient.device, gradient.dtype) for gradient in plain}
        if len(kinds) == 1 and next(iter(kinds))[1] in (torch.float32, torch.float64):
            parts.append(torch.stack(torch._foreach_norm(plain)))
        else:
            parts += [torch.linalg.vector_norm(gradient, dtype=_wide(gradient)).reshape(1) for gradient in plain]
    for name, gradient in gradients.items():
        if isinstance(name, StackedName):
            rows = gradient.detach().reshape(len(name.members), -1)
            parts.append(torch.linalg.vector_norm(rows, dim=1, dtype=_wide(rows)))
    if len(parts) == 1:
        return parts[0]
    device = parts[0].device
    dtype = torch.float64 if any(part.dtype == torch.float64 for part in parts) else torch.float32
    return torch.cat([part.to(device, dtype, non_blocking=True) for part in parts])


def _values(gradient: Tensor) -> Tensor:
    gradient = gradient.detach()
    # What is trained with must stay as it is: to sum up rows of it in place may change its last digits.
    return gradient.coalesce()._values() if gradient.is_sparse else gradient


def _wide(gradient: Tensor) -> torch.dtype:
    """Return the dtype that a norm is computed in: half precision would overflow where no number of a gradient does."""
    is_real = gradient.dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    if is_real:
        return torch.float64 if gradient.dtype == torch.float64 else torch.float32
    return gradient.dtype
