"""Bringing values from the device to the host without waiting for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class HostCopy:
    """Values on their way to the host: the copies begin at once, and ``read`` waits for all of them together.

    Whoever reads the values of one batch when the next has been run hides the wait behind its computation.

    :param values: by name; tensors on CUDA are copied into pinned memory, anything else is passed on as it is
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._done: list[torch.cuda.Event] = []
        copies: dict[int, Any] = {}
        devices = set()
        for value in values.values():
            if isinstance(value, Tensor) and id(value) not in copies:
                tensor = value.detach()
                copies[id(value)] = tensor.to("cpu", non_blocking=tensor.is_cuda)
                if tensor.is_cuda:
                    devices.add(tensor.device)
        self._is_pinned = bool(devices)
        self._values = {name: copies.get(id(value), value) for name, value in values.items()}
        for device in devices:
            with torch.cuda.device(device):
                event = torch.cuda.Event()  # type: ignore[no-untyped-call]
                event.record()
                self._done.append(event)

    def read(self, to_keep: bool = False) -> dict[str, Any]:
        """Wait for the copies and return the values on the host.

        :param to_keep: whether they are kept for long, so that they must not stay in pinned memory, which is scarce
        """
        for event in self._done:
            event.synchronize()
        self._done.clear()
        if to_keep and self._is_pinned:
            tensors = {id(value): value.clone() for value in self._values.values() if isinstance(value, Tensor)}
            self._values = {name: tensors.get(id(value), value) for name, value in self._values.items()}
            self._is_pinned = False
        return self._values
