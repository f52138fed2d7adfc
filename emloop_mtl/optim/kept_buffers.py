"""Buffers as they were before a batch."""

from __future__ import annotations

from collections.abc import Iterator

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
        self._empty: list[tuple[dict[str, Tensor | None], str]] = []
        """Places of buffers that a module has not made yet."""
        self._found: list[tuple[Tensor, int]] = []
        self._copies: list[Tensor] = []

    def keep(self) -> None:
        """Keep the buffers as they are now."""
        version = getattr(self._network, "version", None)
        if version != self._version:
            self._modules = [] if self._network is None else list(self._network.modules())
            self._version = version
        places, empty, found = [], [], []
        for module in self._modules:
            # Asked for each time: a module may exchange its buffers.
            for name, buffer in module._buffers.items():
                if buffer is None:
                    empty.append((module._buffers, name))
                else:
                    places.append((module._buffers, name))
                    found.append(buffer)
        self._places, self._empty = places, empty
        self._found = [(buffer, _version(buffer)) for buffer in found]
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
            for place, name, _, _, copy in self._kept():
                buffer = place.get(name)
                if copy is not None and buffer is not None and _is_alike(buffer, copy) and _has_places(buffer):
                    buffer.copy_(copy)
                else:
                    place[name] = None if copy is None else copy.clone()

    def put_back_where(self, flag: Tensor) -> None:
        """Put them back if a 0-d flag on a device says so, without asking it, but for one that a module has exchanged.

        :param flag: whether to put them back
        """
        with torch.no_grad():
            for place, name, original, version, copy in self._kept():
                buffer = place.get(name)
                if copy is not None and buffer is not None and _is_alike(buffer, copy) and _is_plain(buffer):
                    value = torch.where(flag.to(buffer.device), copy, buffer)
                    if _has_places(buffer):
                        buffer.copy_(value)
                    else:
                        place[name] = value
                elif (copy is None or not _is_plain(copy)) and buffer is original and _version(buffer) == version:
                    continue
                elif bool(flag):
                    place[name] = None if copy is None else copy.clone()

    def _kept(self) -> Iterator[tuple[dict[str, Tensor | None], str, Tensor | None, int, Tensor | None]]:
        """Yield place and name of each buffer, what it was, how often that had been written to, and its copy."""
        for (place, name), (buffer, version), copy in zip(self._places, self._found, self._copies, strict=True):
            yield place, name, buffer, version, copy
        for place, name in self._empty:
            yield place, name, None, 0, None

    def _fit(self, found: list[Tensor]) -> bool:
        return len(found) == len(self._copies) and all(
            _is_alike(buffer, copy) for buffer, copy in zip(found, self._copies, strict=True)
        )


def _version(buffer: Tensor | None) -> int:
    return 0 if buffer is None or buffer.is_inference() else buffer._version


def _is_alike(buffer: Tensor, copy: Tensor) -> bool:
    return (
        not (buffer.is_nested or copy.is_nested)  # which have no shape
        and buffer.shape == copy.shape
        and buffer.dtype == copy.dtype
        and buffer.device == copy.device
        and buffer.layout == copy.layout
    )


def _is_plain(buffer: Tensor) -> bool:
    """Return whether torch can choose between two such buffers number by number."""
    return buffer.layout is torch.strided and not buffer.is_quantized and not buffer.is_nested


def _has_places(buffer: Tensor) -> bool:
    """Return whether each number of a buffer has a place of its own to write to, unlike those of an expanded one."""
    if not _is_plain(buffer) or buffer.is_inference():
        return False
    return not any(stride == 0 and size > 1 for stride, size in zip(buffer.stride(), buffer.shape, strict=True))
