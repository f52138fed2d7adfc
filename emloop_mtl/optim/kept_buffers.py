"""Buffers as they were before a batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class KeptBuffers:
    """Keeps copies of a network's buffers, such as batch statistics, to put them back after a batch that is left out.

    :param network: the network; None for none, which has no buffers
    """

    def __init__(self, network: nn.Module | None) -> None:
        self._network = network
        self._modules: list[nn.Module] = []
        self._version: object = self  # that of no network
        self._places: list[tuple[dict[str, Tensor | None], str]] = []
        self._copies: list[Tensor] = []

    def keep(self) -> None:
        """Keep the buffers as they are now."""
        version = getattr(self._network, "version", None)
        if version != self._version:
            self._modules = [] if self._network is None else list(self._network.modules())
            self._version = version
        places, found = [], []
        for module in self._modules:
            # Asked for each time: a module may exchange its buffers.
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    places.append((module._buffers, name))
                    found.append(buffer)
        self._places = places
        if not found:
            self._copies = []
            return
        with torch.no_grad():
            if self._fit(found):
                torch._foreach_copy_(self._copies, found)
            else:
                self._copies = [buffer.clone() for buffer in found]

    def put_back(self) -> None:
        """Put the buffers back as they were."""
        with torch.no_grad():
            for (place, name), copy in zip(self._places, self._copies, strict=True):
                place[name].copy_(copy)  # type: ignore[union-attr]

    def put_back_where(self, flag: Tensor) -> None:
        """Put them back if a 0-d flag on a device says so, without asking it."""
        with torch.no_grad():
            for (place, name), copy in zip(self._places, self._copies, strict=True):
                buffer = place[name]
                assert buffer is not None
                buffer.copy_(torch.where(flag.to(buffer.device), copy, buffer))

    def _fit(self, found: list[Tensor]) -> bool:
        return len(found) == len(self._copies) and all(
            buffer.shape == copy.shape and buffer.dtype == copy.dtype and buffer.device == copy.device
            for buffer, copy in zip(found, self._copies, strict=True)
        )
