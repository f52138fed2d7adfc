"""Host memory that copies of tensors are made in, over and over."""

from __future__ import annotations

from collections.abc import Hashable

import torch


class HostMemory:
    """Copies tensors to the host, into the memory of earlier copies where that fits.

    Fresh memory is what such a copy costs most: the system hands it out page by page, which takes several times as
    long as the copying itself.
    """

    def __init__(self) -> None:
        self._free: dict[Hashable, list[torch.Tensor]] = {}
        self._taken: list[tuple[Hashable, torch.Tensor]] = []

    def copy(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a copy of a tensor of any device that shares memory with no other one."""
        plain = tensor.detach().resolve_conj().resolve_neg()
        key = plain.dtype, plain.shape, plain.stride()
        fitting = self._free.get(key)
        copy = fitting.pop() if fitting else torch.empty_like(plain, device="cpu")
        self._taken.append((key, copy))
        return copy.copy_(plain)

    def reuse(self) -> None:
        """Give the memory of all copies since the last time for new ones; what found no use again is let go."""
        self._free = {}
        for key, copy in self._taken:
            self._free.setdefault(key, []).append(copy)
        self._taken = []
