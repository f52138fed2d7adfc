"""Rows that are kept until all of them are there."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

MOST_BATCHES = 256
"""So many batches stay where they are, before they are joined and leave the device."""

MOST_BYTES = 1 << 24
"""So much memory of the device they may take."""


class KeptRows:
    """Rows of batches one after the other, on the host, without waiting for the device.

    Every so often what has come is joined, so that many small batches take no more than one large one, and copied to
    the host in the background.

    :param parts: rows to begin with
    :param halve: whether to keep int64 as int32; numbers beyond that come back as the greatest or least of it
    """

    def __init__(self, parts: Sequence[Tensor] = (), halve: bool = False) -> None:
        self._halve = halve
        self._parts = [part for part in parts if len(part)] or list(parts[:1])
        self._moving: list[tuple[Tensor, torch.cuda.Event]] = []
        """What is on its way from the device, and what tells that it has arrived."""
        self._new: list[Tensor] = []
        self._bytes = 0
        self.shape: torch.Size | None = parts[0].shape[1:] if parts else None
        """The shape of a row."""
        self.number = sum(map(len, parts))
        """How many rows there are."""

    def add(self, value: Tensor) -> None:
        """Keep the rows of a batch, which must have ``shape``."""
        # A copy: the batch's memory may be used again, and a part of it would keep all of it.
        value = value.detach().clone()
        if self.shape is None:
            self.shape = value.shape[1:]
        self.number += value.shape[0]
        self._new.append(value)
        self._bytes += value.nbytes
        if len(self._new) >= MOST_BATCHES or self._bytes >= MOST_BYTES:
            self._join()

    def fetch(self) -> Tensor:
        """Return all rows on the host; this waits for the device."""
        self._join()
        self._arrive(wait=True)
        if len(self._parts) > 1:
            self._parts = [torch.cat(self._parts)]
        return self._parts[0]

    def _join(self) -> None:
        if not self._new:
            return
        device = self._new[-1].device
        rows = torch.cat([part.to(device, non_blocking=True) for part in self._new])
        self._new, self._bytes = [], 0
        if self._halve and rows.dtype is torch.int64:
            limits = torch.iinfo(torch.int32)
            rows = rows.clamp(limits.min, limits.max).to(torch.int32)
        if device.type == "cuda":
            self._arrive(wait=False)
            host = rows.to("cpu", non_blocking=True)
            self._moving.append((host, torch.cuda.current_stream(device).record_event()))
        else:
            self._parts.append(rows.cpu())

    def _arrive(self, wait: bool) -> None:
        """Take in what has come from the device, in its order; such memory is dear, so that it is copied once more."""
        while self._moving:
            host, arrived = self._moving[0]
            if wait:
                arrived.synchronize()
            elif not arrived.query():  # type: ignore[no-untyped-call]
                return
            self._parts.append(host.clone())
            del self._moving[0]
