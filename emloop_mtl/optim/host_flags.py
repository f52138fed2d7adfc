"""Flags on their way from a device to the host."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

MOST = 32
"""So many are on their way at most; whoever sends more waits for the oldest."""


class HostFlags:
    """Brings flags to the host in the order in which they were sent, without waiting for the device.

    :param device: where most of them are made
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        is_cuda = device.type == "cuda"
        # Only to memory that is pinned can CUDA copy while the host goes on.
        self._flags = torch.zeros(MOST, dtype=torch.bool, pin_memory=is_cuda)
        self._read = self._flags.numpy()
        make: Any = torch.cuda.Event
        self._events: list[Any] = [make() for _ in range(MOST)] if is_cuda else []
        self._sent = 0
        self._taken = 0

    def __reduce__(self) -> tuple[type[HostFlags], tuple[torch.device]]:
        """A copy has nothing on its way."""
        return HostFlags, (self._device,)

    def __len__(self) -> int:
        return self._sent - self._taken

    def send(self, flag: Tensor) -> None:
        """Send a flag, 0-d and bool; there must be room for it."""
        assert len(self) < MOST
        place = self._sent % MOST
        self._flags[place].copy_(flag, non_blocking=True)
        if self._events:
            self._events[place].record(torch.cuda.current_stream(self._device))
        self._sent += 1

    @property
    def is_here(self) -> bool:
        """Whether the oldest one that was not taken has arrived; False where nothing tells."""
        return bool(self._events) and bool(self._events[self._taken % MOST].query())

    def take(self) -> bool:
        """Return the oldest one, having waited for it if need be."""
        place = self._taken % MOST
        if self._events:
            self._events[place].synchronize()
        self._taken += 1
        return bool(self._read[place])
